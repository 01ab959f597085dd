// Sums over everything in two launches: one partial sum a block, which a single block then adds up.
// All in double, in an order that the number of blocks fixes.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace onpa::gpu {

constexpr int kTotalThreads = 256;

/// How n terms are cut: a block has one chunk, and the second launch's one block goes through the
/// chunks' sums in a few rounds.
constexpr Chunks total_chunks(std::int64_t n) {
  return chunks_of(n, 16 * kTotalThreads, 4 * kTotalThreads);
}

/// Stores the block's sum of `v` as its partial sum. All threads call.
GPU_FN void store_partial(double v, double* partial) {
  GPU_SHARED(warps, double[kTotalThreads / kWarp]);
  const double sum = block_sum<kTotalThreads>(v, warps);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// out[0] = scale * sum of partial[0 .. count).
template <class Out>
__global__ void __launch_bounds__(kTotalThreads)
    total_kernel(const double* partial, std::int64_t count, double scale, Out* out) {
  GPU_SHARED(warps, double[kTotalThreads / kWarp]);
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kTotalThreads) sum += partial[i];
  sum = block_sum<kTotalThreads>(sum, warps);
  if (threadIdx.x == 0) {
    // A double cannot become a bf16 at once.
    using Step = std::conditional_t<sizeof(Out) == sizeof(double), double, float>;
    *out = static_cast<Out>(static_cast<Step>(scale * sum));
  }
}

template <class Out>
void launch_total(kernels::Cuda dev, const void* partial, std::int64_t count, double scale,
                  Out* out) {
  launch(total_kernel<Out>, 1, kTotalThreads, 0, stream_of(dev),
         static_cast<const double*>(partial), count, scale, out);
}

}  // namespace onpa::gpu
