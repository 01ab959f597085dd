// The run time's calls for the simulated device and its memory, whose address space is checked by
// range.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/cuda_sim/device_state.h"

namespace {

using namespace sim::detail;

constexpr std::size_t kAlignment = 256;
// Fresh device memory is NaN in every float type.
constexpr int kPoison = 0xFF;

bool right_sides(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool to_device = holds(device().device_blocks, to);
  const bool from_device = holds(device().device_blocks, from);
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    default:
      return true;
  }
}

// Whether this request, of which `asked` counts all, is the one to refuse. Says so, for tests that
// look at the program from outside.
bool refused(const char* call, std::size_t& asked, std::size_t which) {
  if (++asked != which) return false;
  std::fprintf(stderr, "simulated GPU: %s number %zu is refused\n", call, which);
  return true;
}

}  // namespace

extern "C" {

// --- device ---
cudaError_t cudaGetDeviceCount(int* count) {
  const auto& options = sim::device_options();
  *count = options.start_error == cudaSuccess ? options.count : 0;
  return report(options.start_error);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& options = sim::device_options();
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = options.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = options.minor;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    default:
      return report(cudaErrorInvalidValue);
  }
}
cudaError_t cudaSetDevice(int index) {
  return report(index >= 0 && index < sim::device_options().count ? cudaSuccess
                                                                  : cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int index) {
  if (const std::string& bus = sim::device_options().bus; !bus.empty()) {
    std::snprintf(text, static_cast<std::size_t>(bytes), "%s", bus.c_str());
    return cudaSuccess;
  }
  std::snprintf(text, static_cast<std::size_t>(bytes), "%04x:%02x:00.0",
                static_cast<unsigned>(getpid()) & 0xffffu, static_cast<unsigned>(index) & 0xffu);
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof *properties);
  std::strncpy(properties->name, "simulated GPU", sizeof properties->name - 1);
  properties->major = sim::device_options().major;
  properties->minor = sim::device_options().minor;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = sim::device_options().memory_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const DeviceLock lock;
  *total_bytes = sim::device_options().memory_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, sim::device_stats().live_bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const DeviceLock lock;
  if (const cudaError_t error = refuse_in_capture(nullptr); error != cudaSuccess) return error;
  drain_all();
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const DeviceLock lock;
  return std::exchange(device().last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  const DeviceLock lock;
  return device().last_error;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorInvalidValue:
      return "invalid argument";
    default:
      return "error of the simulated device";
  }
}

// --- memory ---
cudaError_t cudaMalloc(void** p, size_t bytes) {
  const DeviceLock lock;
  *p = nullptr;
  if (const cudaError_t error = refuse_in_capture(nullptr); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  if (refused("cudaMalloc", sim::device_stats().mallocs, sim::device_options().refuse_malloc) ||
      sim::device_stats().live_bytes + bytes > sim::device_options().memory_bytes ||
      posix_memalign(p, kAlignment, bytes) != 0) {
    *p = nullptr;
    return report(cudaErrorMemoryAllocation);
  }
  std::memset(*p, kPoison, bytes);
  device().device_blocks[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  ++sim::device_stats().allocations;
  sim::device_stats().live_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  const DeviceLock lock;
  if (p == nullptr) return cudaSuccess;
  const auto found = device().device_blocks.find(reinterpret_cast<std::uintptr_t>(p));
  if (found == device().device_blocks.end()) return report(cudaErrorInvalidValue);
  drain_all();  // freeing waits for the device
  sim::device_stats().live_bytes -= found->second;
  device().device_blocks.erase(found);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  const DeviceLock lock;
  *p = nullptr;
  if (refused("cudaMallocHost", sim::device_stats().host_mallocs,
              sim::device_options().refuse_malloc_host)) {
    return report(cudaErrorMemoryAllocation);
  }
  *p = std::malloc(std::max<size_t>(bytes, 1));
  if (*p == nullptr) return report(cudaErrorMemoryAllocation);
  device().pinned_blocks[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  const DeviceLock lock;
  device().pinned_blocks.erase(reinterpret_cast<std::uintptr_t>(p));
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const DeviceLock lock;
  if (!right_sides(to, from, kind)) return report(cudaErrorInvalidValue);
  const bool pageable_source =
      kind == cudaMemcpyHostToDevice && !holds(device().pinned_blocks, from);
  const bool pageable_target = kind == cudaMemcpyDeviceToHost && !holds(device().pinned_blocks, to);
  if (pageable_source) {
    // Such a source has been read when the call returns.
    if (stream != nullptr && stream->capture != nullptr) return refuse_in_capture(stream);
    const auto* first = static_cast<const char*>(from);
    enqueue(stream, [to, copy = std::vector<char>(first, first + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
    return cudaSuccess;
  }
  enqueue(stream, [=] { std::memmove(to, from, bytes); });
  if (pageable_target && stream != nullptr) {
    if (const cudaError_t error = refuse_in_capture(stream); error != cudaSuccess) return error;
    drain(stream);
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const DeviceLock lock;
  if (const cudaError_t error = refuse_in_capture(nullptr); error != cudaSuccess) return error;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const DeviceLock lock;
  if (!holds(device().device_blocks, to)) return report(cudaErrorInvalidValue);
  enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

}  // extern "C"
