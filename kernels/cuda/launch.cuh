// The one way to start a kernel.
#pragma once

#include "kernels/cuda/check.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/device.h"

namespace onpa::gpu {

inline cudaStream_t stream_of(kernels::Cuda dev) {
  return static_cast<cudaStream_t>(dev.stream);
}

/// Blocks that cover n elements, `per_block` each.
constexpr unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

#ifdef __CUDACC__
/// Starts `kernel` on `stream`; an empty grid starts nothing. Throws Error (kDevice) if the launch
/// is refused.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t smem_bytes,
            cudaStream_t stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  // More dynamic shared memory than this has to be asked for.
  constexpr std::size_t kDefaultSmemBytes = 48 << 10;
  if (smem_bytes > kDefaultSmemBytes) {
    ONPA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(smem_bytes)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = smem_bytes;
  config.stream = stream;
  ONPA_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}
#endif

}  // namespace onpa::gpu
