#include "apps/study/compute_device.h"

#include "tensor/device.h"

namespace onpa::apps {

bool use_gpu(const std::string& device) {
  if (device == "cpu") return false;
  if (device == "cuda") require_cuda();
  return cuda_problem().empty();
}

Compute choose_compute(const ComputeChoice& choice, const std::string& model_kind) {
  if (!use_gpu(choice.device)) return {};
  const bool bf16 =
      choice.precision == "bf16" || (choice.precision == "auto" && model_kind == "passt");
  return {DeviceKind::kCuda, bf16 ? DType::kBF16 : DType::kF32};
}

}  // namespace onpa::apps
