// Ranks that are processes started by mpirun, on one machine or on several (Open MPI).
#pragma once

#include <exception>
#include <functional>

#include "dist/comm.h"

namespace onpa::dist {

/// Whether onpa was built with MPI.
bool has_mpi();

/// Whether mpirun (or a SLURM step with PMIx) started this process as one of several ranks.
bool started_by_mpi();

/// Joins the other processes, calls body(comm) and leaves, all on the calling thread. Once in a
/// process.
///
/// If the body throws, `report(error, rank)` is called, to say why, and the whole job ended with
/// the code of the Error, or kInternal: this does not return then, and runs no destructor but those
/// of the body. Comm::abort(code) ends it without a report.
///
/// Collectives of which ranks disagree throw Error (kInternal) that names two of them, on all
/// ranks; what MPI reports throws Error (kStopped) with its words. All later ones then throw the
/// same. mpirun itself ends the job if a process dies.
///
/// A collective that was started advances on a thread of its own, which sleeps between looks: Open
/// MPI moves data only inside of its functions.
///
/// Throws Error (kConfig) if onpa was built without MPI, or MPI without threads.
void run_mpi(const std::function<void(Comm&)>& body,
             const std::function<void(const std::exception& error, int rank)>& report);

}  // namespace onpa::dist
