// Sums and maxima over a warp and a block, in an order that is always the same.
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

/// The sum over the warp's 32 lanes, in every lane; all must call.
template <class V>
GPU_FN V warp_sum(V v) {
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(kFullMask, v, step);
  return v;
}
/// The maximum over the warp's 32 lanes, in every lane; a NaN is ignored unless all are.
GPU_FN float warp_max(float v) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    v = fmaxf(v, __shfl_xor_sync(kFullMask, v, step));
  }
  return v;
}

/// The sum over a block of kThreads (a multiple of 32) threads, in every thread; all must call.
/// `partial` is shared memory of kThreads / 32 values that nobody else uses: a barrier must stand
/// between two calls with the same.
template <int kThreads, class V>
GPU_FN V block_sum(V v, V* partial) {
  static_assert(kThreads % kWarp == 0);
  constexpr int kWarps = kThreads / kWarp;
  v = warp_sum(v);
  if constexpr (kWarps > 1) {
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = v;
    __syncthreads();
    v = partial[0];
    for (int i = 1; i < kWarps; ++i) v += partial[i];
  }
  return v;
}

/// Parts of a sum that blocks work on.
struct Chunks {
  std::int64_t size, count;
};
/// Cuts n terms into at most `max_count` chunks of a multiple of `unit` terms. The cuts depend on n
/// alone, so the bits of the sum do too.
constexpr Chunks chunks_of(std::int64_t n, std::int64_t unit, std::int64_t max_count) {
  const std::int64_t units = (n + unit * max_count - 1) / (unit * max_count);
  const std::int64_t size = (units > 0 ? units : 1) * unit;
  return {size, (n + size - 1) / size};
}

}  // namespace onpa::gpu
