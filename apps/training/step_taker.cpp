#include "apps/training/step_taker.h"

#include <limits>
#include <utility>

#include "apps/support/log.h"
#include "apps/training/cpu_steps.h"
#include "apps/training/dense_steps.h"
#include "apps/training/device_steps.h"
#include "dist/launch.h"
#include "dist/nccl.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

// Ranks join their GPUs, one each; with one rank there is nothing to join.
std::unique_ptr<dist::Comm> join_gpus(const StepParts& parts) {
  if (!parts.several_ranks()) return nullptr;
  parts.phase("join GPUs");
  dist::use_gpu_of_rank(parts.ranks->comm(), dist::launch_from_environment().local_rank);
  return dist::make_nccl_comm(parts.ranks->comm());
}

// Where `--device auto` finds a GPU on some ranks only, none of them may go its own way.
void check_same_device(const StepParts& parts, const Compute& compute) {
  if (!parts.several_ranks()) return;
  const bool gpu = compute.device == DeviceKind::kCuda;
  if (!parts.ranks->any(gpu) || !parts.ranks->any(!gpu)) return;
  fail(ExitCode::kDevice, gpu ? "other ranks have no GPU" : cuda_problem(),
       "; with --device cpu all ranks work on the CPU");
}

std::unique_ptr<StepTaker> make_steps(const StepParts& parts, DeviceKind device,
                                      std::size_t free_bytes,
                                      std::unique_ptr<dist::Comm> gpus = nullptr) {
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
  return std::make_unique<DeviceSteps>(parts, std::move(gpus));
}

}  // namespace

std::unique_ptr<StepTaker> start_steps(const StepParts& parts, const Compute& compute,
                                       nn::AveragedParams* average) {
  check_same_device(parts, compute);
  if (compute.device == DeviceKind::kCpu) {
    return make_steps(parts, compute.device, std::numeric_limits<std::size_t>::max());
  }
  std::unique_ptr<dist::Comm> gpus = join_gpus(parts);
  kernels::set_gemm_tuning(parts.config.train.gemm_tuning);
  parts.params.move_to(DeviceKind::kCuda, compute.dtype);
  parts.optimizer.move_to(DeviceKind::kCuda);
  if (average != nullptr) average->move_to(DeviceKind::kCuda);
  const CudaDevice device = cuda_device();
  spdlog::info("on {} ({} MiB free), computing in {}", device.name, device.free_bytes >> 20,
               name_of(compute.dtype));
  return make_steps(parts, compute.device, device.free_bytes, std::move(gpus));
}

}  // namespace onpa::apps
