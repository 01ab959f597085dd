// cuBLASLt for this process: its handle, its scratch memory and its errors.
#pragma once

#include <cublasLt.h>

#include <cstddef>

#include "kernels/error.h"

namespace onpa::gpu {

/// Made at the first use and kept to the process's end. One stream at a time may use the workspace.
struct Blas {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};
/// Throws Error (kDevice, kOutOfMemory).
const Blas& blas();

[[noreturn]] inline void fail_blas(cublasStatus_t status, const char* call, const char* file,
                                   int line) {
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ExitCode::kOutOfMemory : ExitCode::kDevice,
       "cuBLASLt: ", cublasLtGetStatusString(status), " from ", call, " at ", file, ":", line);
}

}  // namespace onpa::gpu

/// Throws Error (kDevice or kOutOfMemory) unless `call` returns CUBLAS_STATUS_SUCCESS.
#define ONPA_BLAS_CHECK(call)                                              \
  do {                                                                     \
    const cublasStatus_t onpa_blas_status = (call);                        \
    if (onpa_blas_status != CUBLAS_STATUS_SUCCESS) {                       \
      ::onpa::gpu::fail_blas(onpa_blas_status, #call, __FILE__, __LINE__); \
    }                                                                      \
  } while (0)
