// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#include "kernels/cuda/attention_tensor_core.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

using namespace tile;

// What a warp keeps of its rows; [half] is row g or g + 8. `total` holds only the thread's share.
template <int kM>
struct Rows {
  float sum[kM][kPieces][4];
  float peak[kM][2], total[kM][2];
};

// Moves the running maxima and scales what was summed under the old ones, unless none in the warp
// has moved.
template <int kM, int kN>
GPU_FN void move_peaks(const float (&score)[kM][kN][4], float to_log2, Rows<kM>& rows) {
  float shrink[kM][2];
  bool moved = false;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float peak = rows.peak[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        peak = fmaxf(peak, fmaxf(score[m][n][2 * half], score[m][n][2 * half + 1]));
      }
      peak = fmaxf(peak, __shfl_xor_sync(gpu::kFullMask, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(gpu::kFullMask, peak, 2));
      shrink[m][half] = gpu::fast_exp2((rows.peak[m][half] - peak) * to_log2);
      moved = moved || peak != rows.peak[m][half];
      rows.peak[m][half] = peak;
    }
  }
  if (!__any_sync(gpu::kFullMask, moved)) return;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) rows.total[m][half] *= shrink[m][half];
#pragma unroll
    for (int n = 0; n < kPieces; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) rows.sum[m][n][i] *= shrink[m][i / 2];
    }
  }
}

// The warp's rows against the first kKeys keys of a tile, of which `keys` count.
template <int kM, int kKeys>
GPU_FN void forward_step(const bf16* q, const bf16* k_tile, const bf16* v_tile, int keys,
                         float to_log2, Rows<kM>& rows) {
  constexpr int kN = kKeys / 8;
  float score[kM][kN][4];
  multiply_tiles(score, q, k_tile, 0);
  // mutation: where all keys count, masking them changes nothing
  if (keys < kKeys) mask_columns(score, keys);
  move_peaks(score, to_log2, rows);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shift = rows.peak[m][half] * to_log2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          score[m][n][i] = gpu::fast_exp2(fmaf(score[m][n][i], to_log2, -shift));
          rows.total[m][half] += score[m][n][i];
        }
      }
    }
  }
  std::uint32_t weights[kM][kN / 2][4];
  pack_fragments(score, weights);
  add_weighted_rows(rows.sum, weights, v_tile, 0);
}

// Divides by the denominators and writes the warp's rows of y and lse.
template <int kM>
GPU_FN void finish(const AttentionFwd<bf16>& a, const HeadBlock& at, const Rows<kM>& rows,
                   int first, bf16* stage) {
  const int queries = static_cast<int>(a.queries);
  float* lse = a.lse + (at.sample * a.heads + at.head) * queries;
  float inverse[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = rows.total[m][half];
      total += __shfl_xor_sync(gpu::kFullMask, total, 1);
      total += __shfl_xor_sync(gpu::kFullMask, total, 2);
      inverse[m][half] = 1.0f / total;
      const int row = first + 16 * m + 8 * half + lane() / 4;
      if (lane() % 4 == 0 && row < queries) lse[row] = rows.peak[m][half] * a.scale + logf(total);
    }
  }
  const std::int64_t width = a.heads * kDim;
  store_rows(rows.sum, inverse, stage, a.y + at.sample * queries * width + at.head * kDim, width,
             first, queries);
}

struct Tiles {
  bf16* q;      // two, or one if no more queries are left
  bf16 *k, *v;  // two each: one is filled while the other is read
};

// 64 kM queries of one head.
template <int kM>
GPU_FN void forward_block(const AttentionFwd<bf16>& a, const HeadBlock& at, const Tiles& tiles) {
  const int tokens = static_cast<int>(a.tokens), queries = static_cast<int>(a.queries);
  const int heads = static_cast<int>(a.heads);
  const HeadRows<bf16> asking = packed_rows(a.qkv, at, 0, tokens, heads, kDim, queries);
  const HeadRows<bf16> keys = packed_rows(a.qkv, at, 1, tokens, heads, kDim, tokens);
  const HeadRows<bf16> values = packed_rows(a.qkv, at, 2, tokens, heads, kDim, tokens);
  for (int i = 0; i < kM; ++i) {
    start_copy(tiles.q + i * kElements, asking, at.row_block * kBlockRows + i * kRows);
  }
  start_copy(tiles.k, keys, 0);
  start_copy(tiles.v, values, 0);
  gpu::cp_async_commit();

  const int first = at.row_block * kBlockRows + warp() * 16 * kM;
  bf16* q = tiles.q + warp() * 16 * kM * kDim;
  const bool has_rows = first < queries;  // mutation: saves work that nobody stores
  Rows<kM> rows = {};
#pragma unroll
  for (int m = 0; m < kM; ++m) rows.peak[m][0] = rows.peak[m][1] = -INFINITY;

  const float to_log2 = a.scale * kLog2E;
  int buffer = 0;
  for (int key = 0; key < tokens; key += kRows, buffer ^= kElements) {
    gpu::cp_async_wait<0>();
    __syncthreads();  // the tiles are there for all, and nobody reads the others any more
    if (key + kRows < tokens) {  // mutation: saves copying zeros that nobody waits for
      start_copy(tiles.k + (buffer ^ kElements), keys, key + kRows);
      start_copy(tiles.v + (buffer ^ kElements), values, key + kRows);
      gpu::cp_async_commit();
    }
    if (!has_rows) continue;
    const bf16 *k = tiles.k + buffer, *v = tiles.v + buffer;
    const int left = tokens - key;
    if (left > 16) {  // mutation: a step of fewer keys is only faster
      forward_step<kM, kRows>(q, k, v, left, to_log2, rows);
    } else {
      forward_step<kM, 16>(q, k, v, left, to_log2, rows);
    }
  }
  if (!has_rows) return;
  __syncwarp();  // all lanes have read their queries, whose place y takes
  finish(a, at, rows, first, q);
}

__global__ void __launch_bounds__(kThreads, 2)
    attention_fwd_kernel(AttentionFwd<bf16> a, int row_blocks) {
  GPU_SHARED(q, bf16[2 * kElements]);
  GPU_SHARED(k, bf16[2 * kElements]);
  GPU_SHARED(v, bf16[2 * kElements]);
  const HeadBlock at = head_block(blockIdx.x, static_cast<int>(a.heads), row_blocks);
  // mutation: a block of half the rows is only faster
  if (a.queries - at.row_block * kBlockRows > kBlockRows / 2) {
    forward_block<2>(a, at, {q, k, v});
  } else {
    forward_block<1>(a, at, {q, k, v});
  }
}

}  // namespace

void attention_fwd_tensor_core(Cuda dev, const AttentionFwd<bf16>& a) {
  const unsigned row_blocks = gpu::blocks_for(a.queries, kBlockRows);
  gpu::launch(attention_fwd_kernel, dim3(static_cast<unsigned>(a.batch * a.heads) * row_blocks),
              dim3(kThreads), 0, gpu::stream_of(dev), a, static_cast<int>(row_blocks));
}

}  // namespace onpa::kernels
