#include <cstdlib>

#include "dist/mpi.h"

namespace onpa::dist {

bool started_by_mpi() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

}  // namespace onpa::dist
