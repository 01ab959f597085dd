// Source: Dao, "FlashAttention-2", arXiv:2307.08691, in float without tensor cores. One kernel sums
// over queries for dk and dv, one over keys for dq: no atomic addition, so the order is fixed.
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

using namespace plain;

template <class T>
struct Inputs {
  HeadRows<T> q, k, v, dy;
  const QueryStats* stats;
};
template <class T>
GPU_FN Inputs<T> inputs_of(const AttentionBwd<T>& a, const HeadBlock& at) {
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int heads = static_cast<int>(a.heads), dim = static_cast<int>(a.head_dim);
  const std::int64_t head = at.sample * a.heads + at.head;
  return {packed_rows(a.qkv, at, 0, tokens, heads, dim, queries),
          packed_rows(a.qkv, at, 1, tokens, heads, dim, tokens),
          packed_rows(a.qkv, at, 2, tokens, heads, dim, tokens),
          output_rows(a.dy, at, queries, heads, dim),
          static_cast<const QueryStats*>(a.workspace) + head * padded_queries(queries)};
}
// Where a head's first row of dq (part 0), dk (1) or dv (2) lies.
template <class T>
GPU_FN T* gradient_rows(const AttentionBwd<T>& a, const HeadBlock& at, int part) {
  const std::int64_t width = a.heads * a.head_dim;
  return a.dqkv + at.sample * a.tokens * 3 * width + part * width + at.head * a.head_dim;
}

// score becomes the probability, slope (dy . v) the gradient of q . k before scaling.
GPU_FN void score_gradient(float to_log2, const QueryStats& query, bool there, float& score,
                           float& slope) {
  score = there ? exp2f(fmaf(score, to_log2, -query.lse2)) : 0.0f;
  slope = score * (slope - query.delta);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) attention_dkv_plain_kernel(AttentionBwd<T> a) {
  GPU_SHARED(row_tile, float[kRows][kLd]);
  GPU_SHARED(other_tile, float[kOthers][kLd]);
  GPU_SHARED(weight_tile, float[kRows][kLd]);
  const Tiles tiles{row_tile, other_tile, weight_tile};
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int dim = static_cast<int>(a.head_dim);
  const PlainBlock at = plain_block(static_cast<int>(a.heads), tokens, dim);
  const Inputs<T> in = inputs_of(a, at.head);

  float dk[4][4] = {}, dv[4][4] = {};
  for (int first = 0; first < queries; first += kOthers) {
    float p[4][4], ds[4][4];
    row_products(tiles, in.k, at.first_row, in.q, first, dim, p);
    row_products(tiles, in.v, at.first_row, in.dy, first, dim, ds);
    for (int j = 0; j < 4; ++j) {
      const QueryStats query = in.stats[first + across() + kAcross * j];
      for (int i = 0; i < 4; ++i) {
        score_gradient(a.scale * kLog2E, query, true, p[i][j], ds[i][j]);
      }
    }
    add_weighted_rows(tiles, p, in.dy, first, at.column, dim, dv);
    add_weighted_rows(tiles, ds, in.q, first, at.column, dim, dk);
  }

  const std::int64_t stride = 3 * a.heads * a.head_dim;
  const float one[4] = {1, 1, 1, 1}, scale[4] = {a.scale, a.scale, a.scale, a.scale};
  store_rows(dk, scale, gradient_rows(a, at.head, 1), stride, at.first_row, tokens, at.column, dim);
  store_rows(dv, one, gradient_rows(a, at.head, 2), stride, at.first_row, tokens, at.column, dim);
  // Tokens that do not ask get no query gradient.
  T* dq = gradient_rows(a, at.head, 0);
  for (int i = 0; i < 4; ++i) {
    const int row = at.first_row + 4 * down() + i;
    const bool asks = row < queries;  // mutation: saves zeros that dq would overwrite
    for (int j = 0; j < 4; ++j) {
      const int c = at.column + 4 * across() + j;
      if (!asks && row < tokens && c < dim) dq[row * stride + c] = static_cast<T>(0.0f);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) attention_dq_plain_kernel(AttentionBwd<T> a) {
  GPU_SHARED(row_tile, float[kRows][kLd]);
  GPU_SHARED(other_tile, float[kOthers][kLd]);
  GPU_SHARED(weight_tile, float[kRows][kLd]);
  const Tiles tiles{row_tile, other_tile, weight_tile};
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int dim = static_cast<int>(a.head_dim);
  const PlainBlock at = plain_block(static_cast<int>(a.heads), queries, dim);
  const Inputs<T> in = inputs_of(a, at.head);

  float dq[4][4] = {};
  for (int first = 0; first < tokens; first += kOthers) {
    float p[4][4], ds[4][4];
    row_products(tiles, in.q, at.first_row, in.k, first, dim, p);
    row_products(tiles, in.dy, at.first_row, in.v, first, dim, ds);
    for (int i = 0; i < 4; ++i) {
      const QueryStats query = in.stats[at.first_row + 4 * down() + i];
      for (int j = 0; j < 4; ++j) {
        const bool there = first + across() + kAcross * j < tokens;
        score_gradient(a.scale * kLog2E, query, there, p[i][j], ds[i][j]);
      }
    }
    add_weighted_rows(tiles, ds, in.k, first, at.column, dim, dq);
  }
  const float scale[4] = {a.scale, a.scale, a.scale, a.scale};
  store_rows(dq, scale, gradient_rows(a, at.head, 0), 3 * a.heads * a.head_dim, at.first_row,
             queries, at.column, dim);
}

}  // namespace

template <class T>
void attention_bwd_plain(Cuda dev, const AttentionBwd<T>& a) {
  const std::int64_t blocks = a.batch * a.heads * column_blocks(static_cast<int>(a.head_dim));
  const dim3 key_blocks(static_cast<unsigned>(blocks * row_blocks(a.tokens)));
  const dim3 query_blocks(static_cast<unsigned>(blocks * row_blocks(a.queries)));
  const cudaStream_t stream = gpu::stream_of(dev);
  gpu::launch(attention_dkv_plain_kernel<T>, key_blocks, dim3(kThreads), 0, stream, a);
  gpu::launch(attention_dq_plain_kernel<T>, query_blocks, dim3(kThreads), 0, stream, a);
}
template void attention_bwd_plain(Cuda, const AttentionBwd<float>&);
template void attention_bwd_plain(Cuda, const AttentionBwd<bf16>&);

}  // namespace onpa::kernels
