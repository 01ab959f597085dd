// The parts of device.h that every build has, and the answers of a build without CUDA.
#include "tensor/device.h"

#include <cstring>
#include <utility>

#include "kernels/error.h"
#include "tensor/device_memory.h"
#include "tensor/memory_plan.h"

namespace onpa {

void require_cuda() {
  if (const std::string problem = cuda_problem(); !problem.empty()) {
    fail(ExitCode::kDevice, problem);
  }
}

namespace detail {
std::function<void()>& device_watch() {
  static thread_local std::function<void()> look;
  return look;
}
}  // namespace detail

DeviceWatch::DeviceWatch(std::function<void()> look)
    : before_(std::exchange(detail::device_watch(), std::move(look))) {}
DeviceWatch::~DeviceWatch() {
  detail::device_watch() = std::move(before_);
}

#ifndef ONPA_CUDA

std::string cuda_problem() {
  return "this build has no CUDA; run './dev setup cuda' and build again, or use --device cpu";
}
std::string cuda_bus() {
  require_cuda();
  return {};
}
CudaDevice cuda_device() {
  require_cuda();
  return {};
}
void use_cuda_device(int) {
  require_cuda();
}
kernels::Cuda current_cuda() {
  require_cuda();
  return {};
}
void synchronize(DeviceKind device) {
  if (device == DeviceKind::kCuda && !planning_memory()) require_cuda();
}
void copy_bytes(void* to, DeviceKind to_device, const void* from, DeviceKind from_device,
                std::size_t bytes) {
  if (to_device == DeviceKind::kCuda || from_device == DeviceKind::kCuda) {
    if (planning_memory()) return;
    require_cuda();
  }
  if (bytes > 0) std::memmove(to, from, bytes);
}
void zero_bytes(void* to, DeviceKind device, std::size_t bytes) {
  if (device == DeviceKind::kCuda) {
    if (planning_memory()) return;
    require_cuda();
  }
  if (bytes > 0) std::memset(to, 0, bytes);
}

namespace detail {
void* allocate_device_block(std::size_t) {
  require_cuda();
  return nullptr;
}
void free_device_block(void*) {}
}  // namespace detail

#endif

}  // namespace onpa
