// cuFFT for this process: its plans and its errors.
#pragma once

#include <cufft.h>

#include <cstdint>

#include "kernels/error.h"

namespace onpa::gpu {

/// Queues the transforms of `batch` rows of `points` real numbers, in place: a row takes points + 2
/// floats, of which it leaves points / 2 + 1 complex numbers. Plans are made at the first use of a
/// (points, batch), outside of a capture, and kept to the process's end. Throws Error (kDevice,
/// kOutOfMemory).
void transform_rows(cudaStream_t stream, int points, int batch, float* rows);

[[noreturn]] inline void fail_fft(cufftResult status, const char* call, const char* file,
                                  int line) {
  fail(status == CUFFT_ALLOC_FAILED ? ExitCode::kOutOfMemory : ExitCode::kDevice,
       "cuFFT: cufftResult ", static_cast<int>(status), " from ", call, " at ", file, ":", line);
}

}  // namespace onpa::gpu

/// Throws Error (kDevice or kOutOfMemory) unless `call` returns CUFFT_SUCCESS.
#define ONPA_FFT_CHECK(call)                                             \
  do {                                                                   \
    const cufftResult onpa_fft_status = (call);                          \
    if (onpa_fft_status != CUFFT_SUCCESS) {                              \
      ::onpa::gpu::fail_fft(onpa_fft_status, #call, __FILE__, __LINE__); \
    }                                                                    \
  } while (0)
