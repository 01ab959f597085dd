#include "dist/nccl.h"

// For builds without CUDA or without NCCL.
namespace onpa::dist {
namespace {

[[noreturn]] void refuse() {
  fail(
      ExitCode::kConfig,
      "this onpa was built without NCCL, which joins GPUs: run './dev setup cuda' and build again, "
      "or use --device cpu");
}

}  // namespace

bool has_nccl() {
  return false;
}

void use_gpu_of_rank(Comm&, int) {
  refuse();
}

std::unique_ptr<Comm> make_nccl_comm(Comm&, double) {
  refuse();
}

}  // namespace onpa::dist
