#include "dist/mpi.h"

// For builds on machines without MPI.
namespace onpa::dist {

bool has_mpi() {
  return false;
}

void run_mpi(const std::function<void(Comm&)>&,
             const std::function<void(const std::exception&, int)>&) {
  fail(ExitCode::kConfig,
       "this onpa was built without MPI: install libopenmpi-dev and openmpi-bin, build again");
}

}  // namespace onpa::dist
