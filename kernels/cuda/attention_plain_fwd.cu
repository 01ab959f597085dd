// Source: Dao, "FlashAttention-2", arXiv:2307.08691, in float without tensor cores.
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

using namespace plain;

constexpr float kLn2 = 0.693147181f;

// A reduction over the 16 threads that share rows.
GPU_FN float row_max(float v) {
  for (int step = kAcross / 2; step > 0; step /= 2) {
    v = fmaxf(v, __shfl_xor_sync(gpu::kFullMask, v, step));
  }
  return v;
}
GPU_FN float row_sum(float v) {
  for (int step = kAcross / 2; step > 0; step /= 2) v += __shfl_xor_sync(gpu::kFullMask, v, step);
  return v;
}

// What a thread keeps of its four rows. `total` holds only its own keys' share.
struct Rows {
  float peak[4], total[4], sum[4][4];
};

// Turns scores (keys `first` + x + 16 j, those from `tokens` on do not count) into unnormalised
// probabilities, moving the running maximum and scaling what was summed under the old one.
GPU_FN void online_softmax(float (&score)[4][4], Rows& rows, float to_log2, int first, int tokens) {
  for (int i = 0; i < 4; ++i) {
    float peak = rows.peak[i];
    for (int j = 0; j < 4; ++j) {
      const bool there = first + across() + kAcross * j < tokens;
      score[i][j] = there ? score[i][j] * to_log2 : -INFINITY;
      peak = fmaxf(peak, score[i][j]);
    }
    peak = row_max(peak);
    const float shrink = exp2f(rows.peak[i] - peak);
    rows.peak[i] = peak;
    rows.total[i] *= shrink;
    for (int j = 0; j < 4; ++j) {
      score[i][j] = exp2f(score[i][j] - peak);
      rows.total[i] += score[i][j];
      rows.sum[i][j] *= shrink;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) attention_fwd_plain_kernel(AttentionFwd<T> a) {
  GPU_SHARED(row_tile, float[kRows][kLd]);
  GPU_SHARED(other_tile, float[kOthers][kLd]);
  GPU_SHARED(weight_tile, float[kRows][kLd]);
  const Tiles tiles{row_tile, other_tile, weight_tile};
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int heads = static_cast<int>(a.heads), dim = static_cast<int>(a.head_dim);
  const PlainBlock at = plain_block(heads, queries, dim);
  const HeadRows<T> q = packed_rows(a.qkv, at.head, 0, tokens, heads, dim, queries);
  const HeadRows<T> k = packed_rows(a.qkv, at.head, 1, tokens, heads, dim, tokens);
  const HeadRows<T> v = packed_rows(a.qkv, at.head, 2, tokens, heads, dim, tokens);

  Rows rows = {};
  for (float& peak : rows.peak) peak = -INFINITY;
  for (int first = 0; first < tokens; first += kOthers) {
    float score[4][4];
    row_products(tiles, q, at.first_row, k, first, dim, score);
    online_softmax(score, rows, a.scale * kLog2E, first, tokens);
    add_weighted_rows(tiles, score, v, first, at.column, dim, rows.sum);
  }

  float inverse[4];
  for (int i = 0; i < 4; ++i) {
    const float total = row_sum(rows.total[i]);
    inverse[i] = 1.0f / total;
    const int row = at.first_row + 4 * down() + i;
    if (at.column == 0 && across() == 0 && row < queries) {
      const std::int64_t head = at.head.sample * a.heads + at.head.head;
      a.lse[head * queries + row] = (rows.peak[i] + log2f(total)) * kLn2;
    }
  }
  const std::int64_t width = a.heads * a.head_dim;
  T* y = a.y + at.head.sample * queries * width + at.head.head * dim;
  store_rows(rows.sum, inverse, y, width, at.first_row, queries, at.column, dim);
}

}  // namespace

template <class T>
void attention_fwd_plain(Cuda dev, const AttentionFwd<T>& a) {
  const std::int64_t blocks =
      a.batch * a.heads * row_blocks(a.queries) * column_blocks(static_cast<int>(a.head_dim));
  gpu::launch(attention_fwd_plain_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0,
              gpu::stream_of(dev), a);
}
template void attention_fwd_plain(Cuda, const AttentionFwd<float>&);
template void attention_fwd_plain(Cuda, const AttentionFwd<bf16>&);

}  // namespace onpa::kernels
