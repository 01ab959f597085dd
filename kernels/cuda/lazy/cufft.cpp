// cuFFT, loaded at its first use (library.h).
#include <cufft.h>

#include "kernels/cuda/lazy/library.h"

namespace {

void* library() {
  static void* handle = onpa::gpu::load_library("cuFFT", ONPA_CUFFT_SONAME, ONPA_CUFFT_PATH);
  return handle;
}

}  // namespace

// The library's function of the same name, looked up once.
#define FORWARD(function, ...)                                              \
  static auto* const loaded = onpa::gpu::load_function<decltype(function)>( \
      library(), "cuFFT", ONPA_CUFFT_SONAME, #function);                    \
  return loaded(__VA_ARGS__)

extern "C" {

cufftResult cufftCreate(cufftHandle* made) {
  FORWARD(cufftCreate, made);
}
cufftResult cufftDestroy(cufftHandle plan) {
  FORWARD(cufftDestroy, plan);
}
cufftResult cufftMakePlanMany(cufftHandle plan, int rank, int* n, int* in_embed, int in_stride,
                              int in_distance, int* out_embed, int out_stride, int out_distance,
                              cufftType type, int batch, size_t* work_bytes) {
  FORWARD(cufftMakePlanMany, plan, rank, n, in_embed, in_stride, in_distance, out_embed, out_stride,
          out_distance, type, batch, work_bytes);
}
cufftResult cufftSetStream(cufftHandle plan, cudaStream_t stream) {
  FORWARD(cufftSetStream, plan, stream);
}
cufftResult cufftExecR2C(cufftHandle plan, cufftReal* in, cufftComplex* out) {
  FORWARD(cufftExecR2C, plan, in, out);
}

}  // extern "C"
