// Gradients of keys and values: a block owns keys and goes over the queries. Scores are computed
// transposed, so that probabilities and score gradients are left operands without leaving their
// registers.
// Source: Dao, "FlashAttention-2", arXiv:2307.08691, with dq left to a kernel of its own.
#include "kernels/cuda/attention_bwd.cuh"
#include "kernels/cuda/attention_tensor_core.h"
#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

using namespace tile;

constexpr int kQueries = 32;  // that a warp works on at once

struct Tiles {
  bf16 *k, *v;        // two each, or one if no more keys are left
  bf16 *q, *dy;       // two each: one is filled while the other is read
  QueryStats* stats;  // the same
};
constexpr std::size_t kSmemBytes =
    4 * gpu::carved_bytes<bf16>(2 * kElements) + gpu::carved_bytes<QueryStats>(2 * kRows);

GPU_FN void start_queries(const Tiles& tiles, int buffer, const BackwardInputs& in, int first) {
  start_copy(tiles.q + buffer * kElements, in.q, first);
  start_copy(tiles.dy + buffer * kElements, in.dy, first);
  if (thread() < kRows / 2) {
    gpu::cp_async16(tiles.stats + buffer * kRows + 2 * thread(), in.stats + first + 2 * thread());
  }
  gpu::cp_async_commit();
}

// The warp's keys against queries [row, row + kQueries) of a tile.
template <int kM>
GPU_FN void dkv_step(const bf16* k, const bf16* v, const bf16* q, const bf16* dy,
                     const QueryStats* stats, int row, float to_log2, float (&dk)[kM][kPieces][4],
                     float (&dv)[kM][kPieces][4]) {
  constexpr int kN = kQueries / 8;
  std::uint32_t p[kM][kN / 2][4];
  float acc[kM][kN][4];
  multiply_tiles(acc, k, q, row);
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const QueryStats* pair = stats + row + 8 * n + 2 * (lane() % 4);
    const float lse2[2] = {pair[0].lse2, pair[1].lse2};
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        acc[m][n][i] = probability(acc[m][n][i], to_log2, lse2[i % 2]);
      }
    }
  }
  pack_fragments(acc, p);
  add_weighted_rows(dv, p, dy, row);
  multiply_tiles(acc, v, dy, row);
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const QueryStats* pair = stats + row + 8 * n + 2 * (lane() % 4);
    const float delta[2] = {pair[0].delta, pair[1].delta};
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 prob = gpu::unpack_bf16(p[m][n / 2][n % 2 * 2 + half]);
        acc[m][n][2 * half] = prob.x * (acc[m][n][2 * half] - delta[0]);
        acc[m][n][2 * half + 1] = prob.y * (acc[m][n][2 * half + 1] - delta[1]);
      }
    }
  }
  pack_fragments(acc, p);
  add_weighted_rows(dk, p, q, row);
}

// Rows [first, first + 16 kM) from `queries` on and below `tokens`: such tokens do not ask.
template <int kM>
GPU_FN void clear_rows(bf16* dq, std::int64_t stride, int first, int queries, int tokens) {
#pragma unroll
  for (int i = 0; i < 16 * kM * kPieces / gpu::kWarp; ++i) {
    const int row = first + lane() / kPieces + i * (gpu::kWarp / kPieces);
    const bool asks = row < queries;  // mutation: saves zeros that dq would overwrite
    if (!asks && row < tokens) {
      *reinterpret_cast<uint4*>(dq + row * stride + lane() % kPieces * 8) = make_uint4(0, 0, 0, 0);
    }
  }
}

// 64 kM keys of one head.
template <int kM>
GPU_FN void dkv_block(const AttentionBwd<bf16>& a, const HeadBlock& at, const Tiles& tiles) {
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const BackwardInputs in = backward_inputs(a, at);
  for (int i = 0; i < kM; ++i) {
    start_copy(tiles.k + i * kElements, in.k, at.row_block * kBlockRows + i * kRows);
    start_copy(tiles.v + i * kElements, in.v, at.row_block * kBlockRows + i * kRows);
  }
  start_queries(tiles, 0, in, 0);

  const int of_warp = warp() * 16 * kM, first = at.row_block * kBlockRows + of_warp;
  bf16 *k = tiles.k + of_warp * kDim, *v = tiles.v + of_warp * kDim;
  const bool has_rows = first < tokens;  // mutation: saves work that nobody stores
  float dk[kM][kPieces][4] = {}, dv[kM][kPieces][4] = {};
  int buffer = 0;
  for (int query = 0; query < queries; query += kRows, buffer ^= 1) {
    gpu::cp_async_wait<0>();
    __syncthreads();  // the tiles are there for all, and nobody reads the others any more
    if (query + kRows < queries) start_queries(tiles, buffer ^ 1, in, query + kRows);
    if (!has_rows) continue;
    // mutation to (kRows): saves work: queries that there are not have probabilities of 0
    const int rows = min(kRows, queries - query);
    for (int row = 0; row < rows; row += kQueries) {
      dkv_step(k, v, tiles.q + buffer * kElements, tiles.dy + buffer * kElements,
               tiles.stats + buffer * kRows, row, a.scale * kLog2E, dk, dv);
    }
  }
  if (!has_rows) return;
  __syncwarp();  // all lanes have read their keys and values, whose places dk and dv take
  float scale[kM][2], one[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    scale[m][0] = scale[m][1] = a.scale;
    one[m][0] = one[m][1] = 1;
  }
  const std::int64_t stride = 3 * a.heads * kDim;
  store_rows(dk, scale, k, gradient_rows(a, at, 1), stride, first, tokens);
  store_rows(dv, one, v, gradient_rows(a, at, 2), stride, first, tokens);
  clear_rows<kM>(gradient_rows(a, at, 0), stride, first, queries, tokens);
}

__global__ void __launch_bounds__(kThreads, 2)
    attention_dkv_kernel(AttentionBwd<bf16> a, int row_blocks) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  Tiles tiles;
  tiles.k = carve.take<bf16>(2 * kElements);
  tiles.v = carve.take<bf16>(2 * kElements);
  tiles.q = carve.take<bf16>(2 * kElements);
  tiles.dy = carve.take<bf16>(2 * kElements);
  tiles.stats = carve.take<QueryStats>(2 * kRows);
  const HeadBlock at = head_block(blockIdx.x, static_cast<int>(a.heads), row_blocks);
  // mutation: a block of half the rows is only faster
  if (a.tokens - at.row_block * kBlockRows > kBlockRows / 2) {
    dkv_block<2>(a, at, tiles);
  } else {
    dkv_block<1>(a, at, tiles);
  }
}

}  // namespace

void attention_dkv_tensor_core(Cuda dev, const AttentionBwd<bf16>& a) {
  const unsigned row_blocks = gpu::blocks_for(a.tokens, kBlockRows);
  gpu::launch(attention_dkv_kernel, dim3(static_cast<unsigned>(a.batch * a.heads) * row_blocks),
              dim3(kThreads), kSmemBytes, gpu::stream_of(dev), a, static_cast<int>(row_blocks));
}

}  // namespace onpa::kernels
