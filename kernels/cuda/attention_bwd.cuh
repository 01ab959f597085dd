// What the two kernels of attention's backward pass on tensor cores share.
#pragma once

#include "kernels/cuda/attention_tile.cuh"

namespace onpa::kernels::tile {

struct BackwardInputs {
  HeadRows<bf16> q, k, v, dy;
  const QueryStats* stats;
};
GPU_FN BackwardInputs backward_inputs(const AttentionBwd<bf16>& a, const HeadBlock& at) {
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int heads = static_cast<int>(a.heads);
  const std::int64_t head = at.sample * a.heads + at.head;
  return {packed_rows(a.qkv, at, 0, tokens, heads, kDim, queries),
          packed_rows(a.qkv, at, 1, tokens, heads, kDim, tokens),
          packed_rows(a.qkv, at, 2, tokens, heads, kDim, tokens),
          output_rows(a.dy, at, queries, heads, kDim),
          static_cast<const QueryStats*>(a.workspace) + head * padded_queries(queries)};
}

// Where a head's first row of dq (part 0), dk (1) or dv (2) lies.
GPU_FN bf16* gradient_rows(const AttentionBwd<bf16>& a, const HeadBlock& at, int part) {
  const std::int64_t width = a.heads * kDim;
  return a.dqkv + at.sample * a.tokens * 3 * width + part * width + at.head * kDim;
}

// first += rows of `a` times rows of b's tile, second likewise with c and d: all along the head.
template <int kM, int kN>
GPU_FN void multiply_two(float (&first)[kM][kN][4], const bf16* a, const bf16* b,
                         float (&second)[kM][kN][4], const bf16* c, const bf16* d, int row) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    std::uint32_t left[kM][4];
    load_fragments(left, a, 0, k);
    multiply_rows(first, left, b, row, k);
    load_fragments(left, c, 0, k);
    multiply_rows(second, left, d, row, k);
  }
}

// A score becomes the probability, slope (dy . v) the gradient of q . k before scaling.
GPU_FN void score_gradient(float to_log2, float lse2, float delta, float& score, float& slope) {
  score = gpu::fast_exp2(fmaf(score, to_log2, -lse2));
  slope = score * (slope - delta);
}

}  // namespace onpa::kernels::tile
