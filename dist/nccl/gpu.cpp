// Which GPU a rank works on.
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>

#include "dist/nccl.h"
#include "kernels/cuda/check.h"
#include "tensor/device.h"

namespace onpa::dist {
namespace {

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

std::int64_t hash_of(std::string_view text) {
  return static_cast<std::int64_t>(std::hash<std::string_view>()(text));
}

// What each rank says.
std::vector<std::int64_t> gathered(Comm& control, std::int64_t mine) {
  const Tensor all = Tensor::zeros({control.size()}, DType::kI64);
  control.all_gather(Tensor::from<std::int64_t>({1}, std::vector<std::int64_t>{mine}), all);
  return all.to_vector<std::int64_t>();
}

}  // namespace

void use_gpu_of_rank(Comm& control, int local_rank) {
  const int rank = control.rank();
  const std::string host = host_name();
  const std::vector<std::int64_t> hosts = gathered(control, hash_of(host));
  if (local_rank < 0) {
    local_rank = 0;
    for (int other = 0; other < rank; ++other) {
      local_rank += hosts[static_cast<std::size_t>(other)] == hosts[static_cast<std::size_t>(rank)];
    }
  }
  if (const std::string problem = cuda_problem(); !problem.empty()) {
    fail(ExitCode::kDevice, "rank ", rank, " on ", host, ": ", problem);
  }
  int count = 0;
  ONPA_CUDA_CHECK(cudaGetDeviceCount(&count));
  const int index = count == 1 ? 0 : local_rank;
  if (index >= count) {
    fail(ExitCode::kDevice, "rank ", rank, " on ", host, ": it is number ", local_rank,
         " there and wants GPU ", index, ", but sees ", count,
         " only; start one rank for each GPU of a host");
  }
  use_cuda_device(index);
  const std::string bus = cuda_bus();
  const std::vector<std::int64_t> gpus = gathered(control, hash_of(host + " " + bus));
  for (int other = 0; other < rank; ++other) {
    if (gpus[static_cast<std::size_t>(other)] == gpus[static_cast<std::size_t>(rank)]) {
      fail(ExitCode::kDevice, "ranks ", other, " and ", rank, " would share GPU ", bus, " of ",
           host, "; start one rank for each GPU of a host");
    }
  }
}

}  // namespace onpa::dist
