// Attention on tensor cores, bf16 with a head width of 64: tiles of 64 rows in shared memory, and
// products of them with fragments that stay in registers. A block is 4 warps, a warp holds
// 16 kM rows of its own. For accumulators with g = lane / 4, t = lane % 4: acc[m][n][0] and [1] are
// row 16 m + g, columns 8 n + 2 t and + 1; [2] and [3] are row 16 m + g + 8.
#pragma once

#include "kernels/cuda/attention_head.cuh"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/scalar.h"

namespace onpa::kernels::tile {

constexpr int kDim = 64;
constexpr int kWarps = 4, kThreads = kWarps * gpu::kWarp;
constexpr int kRows = 64;                // of a tile
constexpr int kElements = kRows * kDim;  // of a tile
constexpr int kBlockRows = 2 * kRows;    // of a block, 32 a warp; half as many if no more are left
constexpr int kPieces = kDim / 8;        // 16-byte pieces in a row
constexpr int kSteps = kDim / 16;        // of a product along the head

GPU_FN int thread() {
  return static_cast<int>(threadIdx.x);
}
GPU_FN int lane() {
  return thread() % gpu::kWarp;
}
GPU_FN int warp() {
  return thread() / gpu::kWarp;
}

// Where a piece of a row lies in a tile. The pieces of each row are permuted so that 8 rows' pieces
// of one column fall on all 32 banks.
GPU_FN int swizzled(int row, int piece) {
  return row * kDim + (piece ^ (row % 8)) * 8;
}

// Where a lane reads the first 16 columns of 16 rows for ldmatrix, the four matrices going down the
// rows first (left operands, and others transposed) or along the columns first. A row begins at a
// multiple of 64 elements, so columns 16 k and on are found by flipping bits: offset ^ 16 k.
GPU_FN int rows_first() {
  return swizzled(lane() % 16, lane() / 16);
}
GPU_FN int columns_first() {
  return swizzled(lane() / 16 * 8 + lane() % 8, lane() / 8 % 2);
}

// Starts copying rows [first, first + 64) to a tile; rows that there are not become zeros.
GPU_FN void start_copy(bf16* tile, const HeadRows<bf16>& from, int first) {
  constexpr int kStep = kThreads / kPieces;  // rows that the block copies at once
  static_assert(kStep % 8 == 0, "a thread's place in the swizzle must not change");
  const int row = thread() / kPieces, piece = thread() % kPieces;
  const bf16* source = from.data + (first + row) * from.stride + piece * 8;
  tile += swizzled(row, piece);
#pragma unroll
  for (int i = 0; i < kRows; i += kStep) {
    gpu::cp_async16(tile + i * kDim, source, first + row + i < from.count);
    source += kStep * from.stride;
  }
}

// acc = the first 16 kM rows of one tile times the transpose of rows [first, first + 8 kN) of
// another, a multiple of 8, along the head.
template <int kM, int kN>
GPU_FN void multiply_tiles(float (&acc)[kM][kN][4], const bf16* rows, const bf16* others,
                           int first) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][n][i] = 0;
    }
  }
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    std::uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      gpu::ldmatrix_x4(a[m], rows + 16 * m * kDim + (rows_first() ^ 16 * k));
    }
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      std::uint32_t b[4];
      gpu::ldmatrix_x4(b, others + (first + 8 * n) * kDim + (columns_first() ^ 16 * k));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        gpu::mma_bf16(acc[m][n], a[m], b[0], b[1]);
        gpu::mma_bf16(acc[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Accumulators rounded to bf16: pair by pair, those of two column tiles are a left operand.
template <int kM, int kN>
GPU_FN void pack_fragments(const float (&acc)[kM][kN][4], std::uint32_t (&a)[kM][kN / 2][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int k = 0; k < kN / 2; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = acc[m][2 * k + i / 2] + i % 2 * 2;
        a[m][k][i] = gpu::pack_bf16(pair[0], pair[1]);
      }
    }
  }
}

// acc (16 kM x 64) += weights (16 kM x 16 kK) times rows [first, first + 16 kK) of a tile.
template <int kM, int kK>
GPU_FN void add_weighted_rows(float (&acc)[kM][kPieces][4],
                              const std::uint32_t (&weights)[kM][kK][4], const bf16* tile,
                              int first) {
#pragma unroll
  for (int k = 0; k < kK; ++k) {
#pragma unroll
    for (int n = 0; n < kPieces; n += 2) {
      std::uint32_t b[4];
      gpu::ldmatrix_x4_trans(b, tile + (first + 16 * k) * kDim + (rows_first() ^ 8 * n));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        gpu::mma_bf16(acc[m][n], weights[m][k], b[0], b[1]);
        gpu::mma_bf16(acc[m][n + 1], weights[m][k], b[2], b[3]);
      }
    }
  }
}

// Scores in columns from `columns` on must not win a maximum and get probability 0.
template <int kM, int kN>
GPU_FN void mask_columns(float (&score)[kM][kN][4], int columns) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool there = 8 * n + 2 * (lane() % 4) + i % 2 < columns;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if (!there) score[m][n][i] = -INFINITY;
      }
    }
  }
}

// Writes factor * acc to rows [first, first + 16 kM) below `count` of a head, 16 bytes a thread.
// `stage` is room for 16 kM rows in shared memory that no other warp uses.
template <int kM>
GPU_FN void store_rows(const float (&acc)[kM][kPieces][4], const float (&factor)[kM][2],
                       bf16* stage, bf16* to, std::int64_t stride, int first, int count) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * m + 8 * half + lane() / 4;
      const float by = factor[m][half];
#pragma unroll
      for (int n = 0; n < kPieces; ++n) {
        const float* pair = acc[m][n] + 2 * half;
        *reinterpret_cast<std::uint32_t*>(stage + swizzled(row, n) + 2 * (lane() % 4)) =
            gpu::pack_bf16(by * pair[0], by * pair[1]);
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * kM * kPieces / gpu::kWarp; ++i) {
    const int row = lane() / kPieces + i * (gpu::kWarp / kPieces), piece = lane() % kPieces;
    if (first + row < count) {
      *reinterpret_cast<uint4*>(to + (first + row) * stride + piece * 8) =
          *reinterpret_cast<const uint4*>(stage + swizzled(row, piece));
    }
  }
}

}  // namespace onpa::kernels::tile
