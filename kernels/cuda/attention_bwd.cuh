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

// The probability of a score, given log2 of its query's softmax denominator.
GPU_FN float probability(float score, float to_log2, float lse2) {
  return gpu::fast_exp2(fmaf(score, to_log2, -lse2));
}

}  // namespace onpa::kernels::tile
