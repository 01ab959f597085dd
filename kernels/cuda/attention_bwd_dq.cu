// Gradients of queries: a block owns queries and goes over the keys, computing scores and their
// gradients again rather than adding to dq from the blocks that own keys. That costs 2 of 7
// products and makes the order of every sum fixed.
// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#include "kernels/cuda/attention_bwd.cuh"
#include "kernels/cuda/attention_tensor_core.h"
#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

using namespace tile;

constexpr int kKeys = 32;  // that a warp works on at once

struct Tiles {
  bf16 *q, *dy;  // two each, or one if no more queries are left
  bf16 *k, *v;   // two each: one is filled while the other is read
};
constexpr std::size_t kSmemBytes = 4 * gpu::carved_bytes<bf16>(2 * kElements);

GPU_FN void start_keys(const Tiles& tiles, int buffer, const BackwardInputs& in, int first) {
  start_copy(tiles.k + buffer * kElements, in.k, first);
  start_copy(tiles.v + buffer * kElements, in.v, first);
  gpu::cp_async_commit();
}

// The warp's queries against keys [row, row + kKeys) of a tile, of which `keys` count.
template <int kM>
GPU_FN void dq_step(const bf16* q, const bf16* dy, const bf16* k, const bf16* v,
                    const QueryStats (&stats)[kM][2], int row, int keys, float to_log2,
                    float (&dq)[kM][kPieces][4]) {
  constexpr int kN = kKeys / 8;
  float p[kM][kN][4], ds[kM][kN][4];
  multiply_tiles(p, q, k, row);
  // Without this a key that is not there could have an infinite probability, and infinity times
  // its zeros is not a number.
  // mutation: where all keys count, masking them changes nothing
  if (keys < kKeys) mask_columns(p, keys);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p[m][n][i] = probability(p[m][n][i], to_log2, stats[m][i / 2].lse2);
      }
    }
  }
  multiply_tiles(ds, dy, v, row);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) ds[m][n][i] = p[m][n][i] * (ds[m][n][i] - stats[m][i / 2].delta);
    }
  }
  std::uint32_t weights[kM][kN / 2][4];
  pack_fragments(ds, weights);
  add_weighted_rows(dq, weights, k, row);
}

// 64 kM queries of one head.
template <int kM>
GPU_FN void dq_block(const AttentionBwd<bf16>& a, const HeadBlock& at, const Tiles& tiles) {
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const BackwardInputs in = backward_inputs(a, at);
  for (int i = 0; i < kM; ++i) {
    start_copy(tiles.q + i * kElements, in.q, at.row_block * kBlockRows + i * kRows);
    start_copy(tiles.dy + i * kElements, in.dy, at.row_block * kBlockRows + i * kRows);
  }
  start_keys(tiles, 0, in, 0);

  const int of_warp = warp() * 16 * kM, first = at.row_block * kBlockRows + of_warp;
  bf16 *q = tiles.q + of_warp * kDim, *dy = tiles.dy + of_warp * kDim;
  const bool has_rows = first < queries;  // mutation: saves work that nobody stores
  QueryStats stats[kM][2] = {};
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      stats[m][half] = in.stats[first + 16 * m + 8 * half + lane() / 4];
    }
  }
  float dq[kM][kPieces][4] = {};
  int buffer = 0;
  for (int key = 0; key < tokens; key += kRows, buffer ^= 1) {
    gpu::cp_async_wait<0>();
    __syncthreads();  // the tiles are there for all, and nobody reads the others any more
    // mutation: saves copying zeros that nobody waits for
    if (key + kRows < tokens) start_keys(tiles, buffer ^ 1, in, key + kRows);
    if (!has_rows) continue;
    const int rows = min(kRows, tokens - key);
    for (int row = 0; row < rows; row += kKeys) {
      dq_step(q, dy, tiles.k + buffer * kElements, tiles.v + buffer * kElements, stats, row,
              rows - row, a.scale * kLog2E, dq);
    }
  }
  if (!has_rows) return;
  __syncwarp();  // all lanes have read their queries, whose place dq takes
  float scale[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) scale[m][0] = scale[m][1] = a.scale;
  store_rows(dq, scale, q, gradient_rows(a, at, 0), 3 * a.heads * kDim, first, queries);
}

__global__ void __launch_bounds__(kThreads, 2)
    attention_dq_kernel(AttentionBwd<bf16> a, int row_blocks) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  Tiles tiles;
  tiles.q = carve.take<bf16>(2 * kElements);
  tiles.dy = carve.take<bf16>(2 * kElements);
  tiles.k = carve.take<bf16>(2 * kElements);
  tiles.v = carve.take<bf16>(2 * kElements);
  const HeadBlock at = head_block(blockIdx.x, static_cast<int>(a.heads), row_blocks);
  if (a.queries - at.row_block * kBlockRows > kBlockRows / 2) {
    dq_block<2>(a, at, tiles);
  } else {
    dq_block<1>(a, at, tiles);
  }
}

}  // namespace

void attention_dq_tensor_core(Cuda dev, const AttentionBwd<bf16>& a) {
  const unsigned row_blocks = gpu::blocks_for(a.queries, kBlockRows);
  gpu::launch(attention_dq_kernel, dim3(static_cast<unsigned>(a.batch * a.heads) * row_blocks),
              dim3(kThreads), kSmemBytes, gpu::stream_of(dev), a, static_cast<int>(row_blocks));
}

}  // namespace onpa::kernels
