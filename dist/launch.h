// Who started this process, and as which of how many ranks.
#pragma once

#include <exception>
#include <functional>
#include <string>

#include "dist/comm.h"

namespace onpa::dist {

/// How ranks of a job are to meet.
struct Launch {
  enum class By {
    kNobody,  // one rank
    kMpi,     // mpirun, or srun with PMIx
    kTcp,     // a launcher that sets the environment only: torchrun, srun, a shell
  };
  By by = By::kNobody;
  int rank = 0, size = 1;
  int local_rank = -1;   // among the ranks of its host; -1: nobody has said
  std::string host;      // kTcp: of rank 0
  int port = 0;          // kTcp
  double seconds = 300;  // kTcp: how long ranks wait for each other to come
};

/// What the environment says, `variable(name)` being a variable's value or null:
///
/// - OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, or PMIX_RANK: MPI.
/// - RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and LOCAL_RANK if known: TCP.
/// - SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, where MASTER_ADDR and MASTER_PORT are set: TCP.
///
/// ONPA_JOIN_SECONDS: how long ranks wait for each other, 300 by default. Under torchrun, whose
/// agent keeps MASTER_PORT for itself, the next port is used.
///
/// Throws Error (kConfig) naming the variables if something is missing or makes no sense, if
/// launchers contradict each other, or if srun started several tasks that nothing joins.
Launch launch_of(const std::function<const char*(const char*)>& variable);
/// Of this process.
Launch launch_from_environment();

/// Whether there are several ranks in this job, and what is said of them holds. Throws Error as
/// launch_of().
bool started_as_one_of_several();

/// Calls body(comm) with the ranks that launch_from_environment() tells of: as run_mpi() or
/// run_tcp(); or as one rank (Alone), without any thread or network, where what the body throws is
/// passed on.
void run_from_environment(const std::function<void(Comm&)>& body,
                          const std::function<void(const std::exception& error, int rank)>& report);

/// Calls body(comm) with one rank.
void run_alone(const std::function<void(Comm&)>& body);

}  // namespace onpa::dist
