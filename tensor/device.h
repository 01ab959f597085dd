// Memory and order of work on either device. Work on the GPU is queued on one stream per process;
// nothing here waits for it unless it says so.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "kernels/device.h"
#include "tensor/storage.h"

namespace onpa {

namespace detail {
/// What the waits of this thread call; empty without a DeviceWatch.
std::function<void()>& device_watch();
}  // namespace detail

/// Whether this build has the CUDA backend.
constexpr bool has_cuda_backend() {
#ifdef ONPA_CUDA
  return true;
#else
  return false;
#endif
}

/// Empty if a GPU can be used, else why not, in one line with the remedy.
std::string cuda_problem();
/// Throws Error (kDevice) with cuda_problem() if there is one.
void require_cuda();
/// PCI address of the GPU in use, which costs no memory there. Throws Error (kDevice).
std::string cuda_bus();
/// Name, memory and compute capability of the GPU in use; free_bytes is without what libraries take
/// for themselves. Throws Error (kDevice).
struct CudaDevice {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  std::size_t total_bytes = 0, free_bytes = 0;
};
CudaDevice cuda_device();

/// Chooses which of the GPUs that the process sees is the one in use (0 without this), before the
/// first work there. For the thread that then does all of it. Throws Error (kDevice) if there is no
/// such GPU, kInternal if another is in use.
void use_cuda_device(int index);

/// While one lives, waits of this thread for the GPU, here and in device_step.h, look at it again
/// and again instead of sleeping until it is done, and call `look` now and then. What that throws
/// ends the wait: work that other machines take part in may never end.
class DeviceWatch {
 public:
  explicit DeviceWatch(std::function<void()> look);
  ~DeviceWatch();
  DeviceWatch(const DeviceWatch&) = delete;
  DeviceWatch& operator=(const DeviceWatch&) = delete;

 private:
  std::function<void()> before_;
};

/// The stream that all work of this process goes to. Throws Error (kDevice).
kernels::Cuda current_cuda();
/// Waits until all work queued on `device` is done.
void synchronize(DeviceKind device);

/// Copies bytes within or between devices, in the order of the stream; waits if one side is the
/// CPU. Does nothing while memory is being planned (memory_plan.h).
void copy_bytes(void* to, DeviceKind to_device, const void* from, DeviceKind from_device,
                std::size_t bytes);
void zero_bytes(void* to, DeviceKind device, std::size_t bytes);

}  // namespace onpa
