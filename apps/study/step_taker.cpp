#include "apps/study/step_taker.h"

#include <limits>

#include "apps/study/cpu_steps.h"
#include "apps/study/dense_steps.h"
#include "apps/study/device_steps.h"
#include "apps/support/log.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

std::unique_ptr<StepTaker> make_steps(const StepParts& parts, DeviceKind device,
                                      std::size_t free_bytes) {
  if (const DenseRows* rows = parts.task.dense_rows()) {
    const std::string problem = parts.several_ranks()
                                    ? "several ranks"
                                    : DenseSteps::problem(parts.config, *rows, free_bytes);
    if (problem.empty()) {
      return std::make_unique<DenseSteps>(parts, *rows);
    }
    spdlog::info("steps through autograd: {}", problem);
  }
  if (device == DeviceKind::kCpu) return std::make_unique<CpuSteps>(parts);
  return std::make_unique<DeviceSteps>(parts);
}

}  // namespace

std::unique_ptr<StepTaker> start_steps(const StepParts& parts, const Compute& compute,
                                       nn::AveragedParams* average) {
  if (compute.device == DeviceKind::kCpu) {
    return make_steps(parts, compute.device, std::numeric_limits<std::size_t>::max());
  }
  if (parts.several_ranks()) {
    fail(ExitCode::kConfig, "several ranks train on the CPU only: --device cpu");
  }
  kernels::set_gemm_tuning(parts.config.train.gemm_tuning);
  parts.params.move_to(DeviceKind::kCuda, compute.dtype);
  parts.optimizer.move_to(DeviceKind::kCuda);
  if (average != nullptr) average->move_to(DeviceKind::kCuda);
  const CudaDevice device = cuda_device();
  spdlog::info("on {} ({} MiB free), computing in {}", device.name, device.free_bytes >> 20,
               name_of(compute.dtype));
  return make_steps(parts, compute.device, device.free_bytes);
}

}  // namespace onpa::apps
