// mpirun, seen from one of its ranks.
#pragma once

namespace onpa::dist::mpi {

/// To be called by a rank that is about to abort the job. Open MPI's mpirun then waits for the
/// daemons of all hosts, for ever if one is frozen. A process that this starts ends mpirun if it is
/// still there after some seconds: by SIGINT twice, as a user would, then by SIGKILL. Only on
/// mpirun's own host; does nothing if this process is not mpirun's child.
void end_launcher_if_it_hangs();

}  // namespace onpa::dist::mpi
