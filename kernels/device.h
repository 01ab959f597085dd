// Device tags: overload resolution on the tag picks the backend of a kernel.
#pragma once

#include <cstdint>

// Functions that host code and kernels share.
#ifdef __CUDACC__
#define ONPA_HOST_DEVICE __host__ __device__
#else
#define ONPA_HOST_DEVICE
#endif

namespace onpa::kernels {

struct Cpu {};
struct Cuda {
  void* stream = nullptr;  // cudaStream_t
};

/// Whether a backward kernel overwrites its gradient output or adds to it.
enum class GradMode : std::uint8_t { kAssign, kAccumulate };

}  // namespace onpa::kernels
