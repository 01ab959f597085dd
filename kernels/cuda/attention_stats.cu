// What backward needs to know of each query before it starts.
#include "kernels/cuda/attention_head.cuh"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 8;  // threads a row
static_assert(kStatsBlock % (kThreads / kLanes) == 0, "no thread is without a row");

// The thread's share of dy . y over one row.
template <bool kVectors, class T>
GPU_FN float partial_dot(const T* dy, const T* y, int dim, int lane) {
  float sum = 0;
  if constexpr (kVectors) {
    constexpr int kWidth = gpu::kVec<T>;
    for (int c = lane * kWidth; c < dim; c += kLanes * kWidth) {
      float g[kWidth], v[kWidth];
      gpu::load16(dy + c, g);
      gpu::load16(y + c, v);
      for (int i = 0; i < kWidth; ++i) sum = fmaf(g[i], v[i], sum);
    }
  } else {
    for (int c = lane; c < dim; c += kLanes) {
      sum = fmaf(static_cast<float>(dy[c]), static_cast<float>(y[c]), sum);
    }
  }
  return sum;
}

// Rows in the order (batch, padded queries, heads), in which dy and y are contiguous.
template <bool kVectors, class T>
__global__ void __launch_bounds__(kThreads) attention_query_stats_kernel(AttentionBwd<T> a) {
  const int queries = static_cast<int>(a.queries), padded = padded_queries(queries);
  const int heads = static_cast<int>(a.heads), dim = static_cast<int>(a.head_dim);
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = thread / kLanes;
  const int lane = static_cast<int>(thread % kLanes), head = static_cast<int>(row % heads);
  const int query = static_cast<int>(row / heads % padded);
  const std::int64_t sample = row / heads / padded;
  const bool there = query < queries;

  const std::int64_t at = ((sample * queries + query) * heads + head) * dim;
  float delta = there ? partial_dot<kVectors>(a.dy + at, a.y + at, dim, lane) : 0.0f;
  for (int step = kLanes / 2; step > 0; step /= 2) {
    delta += __shfl_xor_sync(gpu::kFullMask, delta, step);
  }
  if (lane != 0) return;
  const std::int64_t of_head = sample * heads + head;
  const float lse2 = there ? a.lse[of_head * queries + query] * kLog2E : INFINITY;
  static_cast<QueryStats*>(a.workspace)[of_head * padded + query] = {lse2, delta};
}

}  // namespace

template <class T>
void attention_query_stats(Cuda dev, const AttentionBwd<T>& a) {
  const std::int64_t rows = a.batch * a.heads * padded_queries(static_cast<int>(a.queries));
  const bool vectors = a.head_dim % gpu::kVec<T> == 0 && gpu::aligned16(a.dy, a.y);
  gpu::launch(
      vectors ? attention_query_stats_kernel<true, T> : attention_query_stats_kernel<false, T>,
      dim3(gpu::blocks_for(rows, kThreads / kLanes)), dim3(kThreads), 0, gpu::stream_of(dev), a);
}
template void attention_query_stats(Cuda, const AttentionBwd<float>&);
template void attention_query_stats(Cuda, const AttentionBwd<bf16>&);

}  // namespace onpa::kernels
