// Errors of the CUDA run time as onpa::Error, with the call and its place.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/error.h"

namespace onpa::gpu {

[[noreturn]] inline void fail_cuda(cudaError_t error, const char* call, const char* file,
                                   int line) {
  const ExitCode code =
      error == cudaErrorMemoryAllocation ? ExitCode::kOutOfMemory : ExitCode::kDevice;
  fail(code, "CUDA: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ") from ", call,
       " at ", file, ":", line);
}

}  // namespace onpa::gpu

/// Throws Error (kOutOfMemory or kDevice) unless `call` returns cudaSuccess.
#define ONPA_CUDA_CHECK(call)                                             \
  do {                                                                    \
    const cudaError_t onpa_cuda_error = (call);                           \
    if (onpa_cuda_error != cudaSuccess) {                                 \
      ::onpa::gpu::fail_cuda(onpa_cuda_error, #call, __FILE__, __LINE__); \
    }                                                                     \
  } while (0)
