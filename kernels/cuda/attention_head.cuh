// What the attention kernels share: where the rows of a head lie, and what backward needs to know
// of each query.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/gpu.cuh"

namespace onpa::kernels {

constexpr float kLog2E = 1.44269504f;

// Rows of one head: row r is at data + r * stride; rows from `count` on read as zeros.
template <class T>
struct HeadRows {
  const T* data;
  std::int64_t stride;
  int count;
};

// Which head, which block of its rows: blocks are numbered row block first, then head, then sample,
// so that blocks that run together read the same keys.
struct HeadBlock {
  int sample, head, row_block;
};
GPU_FN HeadBlock head_block(unsigned index, int heads, int row_blocks) {
  const int i = static_cast<int>(index / static_cast<unsigned>(row_blocks));
  return {.sample = i / heads,
          .head = i % heads,
          .row_block = static_cast<int>(index % static_cast<unsigned>(row_blocks))};
}

// The parts of a packed projection (queries, keys, values: part 0, 1, 2) that belong to a head.
template <class T>
GPU_FN HeadRows<T> packed_rows(const T* qkv, const HeadBlock& at, int part, std::int64_t tokens,
                               int heads, int dim, int count) {
  const std::int64_t width = static_cast<std::int64_t>(heads) * dim;
  return {qkv + at.sample * tokens * 3 * width + part * width + at.head * dim, 3 * width, count};
}
// The same for (batch, queries, heads * dim).
template <class T>
GPU_FN HeadRows<T> output_rows(const T* y, const HeadBlock& at, int queries, int heads, int dim) {
  const std::int64_t width = static_cast<std::int64_t>(heads) * dim;
  return {y + at.sample * queries * width + at.head * dim, width, queries};
}

// Backward's knowledge of a query, in the workspace as (batch, heads, padded_queries). Queries that
// are only padding have an infinite lse2, which makes their probabilities 0.
struct QueryStats {
  float lse2;   // log2 of the softmax denominator
  float delta;  // dy . y: what the softmax's normalisation takes off each score's gradient
};
constexpr int kStatsBlock = 64;
constexpr int padded_queries(int queries) {
  return (queries + kStatsBlock - 1) / kStatsBlock * kStatsBlock;
}

}  // namespace onpa::kernels
