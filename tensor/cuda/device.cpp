// device.h on the CUDA run time.
#include "tensor/device.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <mutex>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/check.h"
#include "kernels/error.h"
#include "tensor/cuda/event.h"
#include "tensor/device_memory.h"
#include "tensor/memory_plan.h"

namespace onpa {
namespace {

// Kernels are built for compute capability 8.0 and up.
constexpr int kOldestMajor = 8;

int chosen_device = 0;
bool stream_made = false;

cudaMemcpyKind copy_kind(DeviceKind to, DeviceKind from) {
  if (to == DeviceKind::kCuda) {
    return from == DeviceKind::kCuda ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  }
  return cudaMemcpyDeviceToHost;
}

std::string find_problem() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is missing or too old for this build's CUDA; update it, or use "
           "--device cpu";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return "no NVIDIA GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device "
           "cpu";
  }
  if (error != cudaSuccess) {
    return std::string("CUDA does not start: ") + cudaGetErrorString(error) +
           "; check nvidia-smi, or use --device cpu";
  }
  int major = 0, minor = 0;
  ONPA_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, chosen_device));
  ONPA_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, chosen_device));
  if (major < kOldestMajor) {
    return detail::concat("the GPU has compute capability ", major, ".", minor,
                          ", the kernels need 8.0 (A100) or newer; use --device cpu");
  }
  return "";
}

}  // namespace

std::string cuda_problem() {
  static const std::string problem = find_problem();
  return problem;
}

void use_cuda_device(int index) {
  ONPA_CHECK(!stream_made || index == chosen_device, "GPU ", chosen_device,
             " is in use already, not ", index);
  ONPA_CUDA_CHECK(cudaSetDevice(index));
  chosen_device = index;
}

std::string cuda_bus() {
  require_cuda();
  char bus[32] = "";
  ONPA_CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, chosen_device));
  return bus;
}

CudaDevice cuda_device() {
  require_cuda();
  cudaDeviceProp properties;
  ONPA_CUDA_CHECK(cudaGetDeviceProperties(&properties, chosen_device));
  CudaDevice out;
  out.name = properties.name;
  out.major = properties.major;
  out.minor = properties.minor;
  out.multiprocessors = properties.multiProcessorCount;
  gpu::blas();  // takes its workspace first: what is free afterwards is for tensors
  ONPA_CUDA_CHECK(cudaMemGetInfo(&out.free_bytes, &out.total_bytes));
  return out;
}

kernels::Cuda current_cuda() {
  static cudaStream_t stream = [] {
    require_cuda();
    cudaStream_t made = nullptr;
    ONPA_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    stream_made = true;
    return made;
  }();
  return {stream};
}

void synchronize(DeviceKind device) {
  if (device == DeviceKind::kCpu || planning_memory()) return;
  wait_on_host(static_cast<cudaStream_t>(current_cuda().stream));
}

void copy_bytes(void* to, DeviceKind to_device, const void* from, DeviceKind from_device,
                std::size_t bytes) {
  if (bytes == 0) return;
  if (to_device == DeviceKind::kCpu && from_device == DeviceKind::kCpu) {
    std::memmove(to, from, bytes);
    return;
  }
  if (planning_memory()) return;
  const auto stream = static_cast<cudaStream_t>(current_cuda().stream);
  ONPA_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, copy_kind(to_device, from_device), stream));
  if (to_device != from_device) wait_on_host(stream);
}

void zero_bytes(void* to, DeviceKind device, std::size_t bytes) {
  if (bytes == 0) return;
  if (device == DeviceKind::kCpu) {
    std::memset(to, 0, bytes);
    return;
  }
  if (planning_memory()) return;
  ONPA_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(current_cuda().stream)));
}

namespace detail {

void* allocate_device_block(std::size_t bytes) {
  require_cuda();
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would be reported again by the next launch
    return nullptr;
  }
  ONPA_CUDA_CHECK(error);
  return block;
}

void free_device_block(void* block) {
  // Fails only when the process is on its way out and the driver has gone before.
  cudaFree(block);
}

}  // namespace detail

}  // namespace onpa
