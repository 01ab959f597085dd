#include "apps/support/compute_device.h"

#include "apps/support/log.h"
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

void move_model(nn::Module& model, const Compute& compute) {
  if (compute.device == DeviceKind::kCpu) return;
  model.move_to(compute.device, compute.dtype);
  spdlog::info("on {}, computing in {}", cuda_device().name, name_of(compute.dtype));
}

}  // namespace onpa::apps
