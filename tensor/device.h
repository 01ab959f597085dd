// Memory and order of work on either device. Work on the GPU is queued on one stream per process;
// nothing here waits for it unless it says so.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/device.h"
#include "tensor/storage.h"

namespace onpa {

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
/// Name, memory and compute capability of the GPU in use; free_bytes is without what libraries take
/// for themselves. Throws Error (kDevice).
struct CudaDevice {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  std::size_t total_bytes = 0, free_bytes = 0;
};
CudaDevice cuda_device();

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
