// Blocks of float products through shared memory, for attention of any head width. A block of 128
// threads, 16 across and 8 down, works on 32 rows against 64 others: thread (x, y) holds rows
// 4y .. 4y + 3 against others x, x + 16, x + 32, x + 48, or columns 4x .. 4x + 3.
#pragma once

#include "kernels/cuda/attention_head.cuh"
#include "kernels/cuda/gpu.cuh"
#include "kernels/scalar.h"

namespace onpa::kernels::plain {

constexpr int kThreads = 128;
constexpr int kAcross = 16;
constexpr int kRows = 32, kOthers = 64, kColumns = 64;
constexpr int kLd = kColumns + 4;  // 16-byte rows that fall on different banks

// Shared memory.
struct Tiles {
  float (*rows)[kLd];     // (kRows, kColumns)
  float (*others)[kLd];   // (kOthers, kColumns)
  float (*weights)[kLd];  // (kRows, kOthers)
};

GPU_FN int across() {
  return static_cast<int>(threadIdx.x) % kAcross;
}
GPU_FN int down() {
  return static_cast<int>(threadIdx.x) / kAcross;
}

// to (count, kColumns) = rows [first, first + count), columns [column, column + kColumns); zeros
// where there are no such rows or columns.
template <class T>
GPU_FN void load_tile(float (*to)[kLd], const HeadRows<T>& from, int first, int count, int column,
                      int dim) {
  for (int i = static_cast<int>(threadIdx.x); i < count * kColumns; i += kThreads) {
    const int row = i / kColumns, c = i % kColumns;
    const bool there = first + row < from.count && column + c < dim;
    to[row][c] =
        there ? static_cast<float>(from.data[(first + row) * from.stride + column + c]) : 0.0f;
  }
}

GPU_FN float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}

// product[i][j] = row 4y + i of `rows` times row x + 16 j of `others`, over all of the head.
template <class T>
GPU_FN void row_products(const Tiles& t, const HeadRows<T>& rows, int first_row,
                         const HeadRows<T>& others, int first_other, int dim,
                         float (&product)[4][4]) {
  for (auto& row : product) {
    for (float& v : row) v = 0;
  }
  for (int column = 0; column < dim; column += kColumns) {
    __syncthreads();  // all have read what is overwritten here
    load_tile(t.rows, rows, first_row, kRows, column, dim);
    load_tile(t.others, others, first_other, kOthers, column, dim);
    __syncthreads();
    // mutation to (kColumns): saves products of zeros
    const int columns = min(kColumns, dim - column);
    for (int c = 0; c < columns; c += 4) {
      float4 r[4], o[4];
      for (int i = 0; i < 4; ++i) {
        r[i] = load4(&t.rows[4 * down() + i][c]);
        o[i] = load4(&t.others[across() + kAcross * i][c]);
      }
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
          float& v = product[i][j];
          v = fmaf(r[i].x, o[j].x, v);
          v = fmaf(r[i].y, o[j].y, v);
          v = fmaf(r[i].z, o[j].z, v);
          v = fmaf(r[i].w, o[j].w, v);
        }
      }
    }
  }
}

// sum[i][j] += weights of row 4y + i times column `column` + 4x + j of `others`.
template <class T>
GPU_FN void add_weighted_rows(const Tiles& t, const float (&weights)[4][4],
                              const HeadRows<T>& others, int first_other, int column, int dim,
                              float (&sum)[4][4]) {
  __syncthreads();  // all have read what is overwritten here
  load_tile(t.others, others, first_other, kOthers, column, dim);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      t.weights[4 * down() + i][across() + kAcross * j] = weights[i][j];
    }
  }
  __syncthreads();
  // mutation to (kOthers): saves products of zeros
  const int count = min(kOthers, others.count - first_other);
  for (int k = 0; k < count; k += 4) {
    float4 w[4], o[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = load4(&t.weights[4 * down() + i][k]);
      o[i] = load4(&t.others[k + i][4 * across()]);
    }
    for (int i = 0; i < 4; ++i) {
      const float row[4] = {w[i].x, w[i].y, w[i].z, w[i].w};
      for (int l = 0; l < 4; ++l) {
        sum[i][0] = fmaf(row[l], o[l].x, sum[i][0]);
        sum[i][1] = fmaf(row[l], o[l].y, sum[i][1]);
        sum[i][2] = fmaf(row[l], o[l].z, sum[i][2]);
        sum[i][3] = fmaf(row[l], o[l].w, sum[i][3]);
      }
    }
  }
}

// Rows first + 4y + i below `count`, columns column + 4x + j below dim: to = factor[i] * sum.
template <class T>
GPU_FN void store_rows(const float (&sum)[4][4], const float (&factor)[4], T* to,
                       std::int64_t stride, int first, int count, int column, int dim) {
  for (int i = 0; i < 4; ++i) {
    const int row = first + 4 * down() + i;
    for (int j = 0; j < 4; ++j) {
      const int c = column + 4 * across() + j;
      if (row < count && c < dim) to[row * stride + c] = static_cast<T>(factor[i] * sum[i][j]);
    }
  }
}

// The blocks of a grid: the columns of a head that are summed are split over blocks, each of which
// computes all scores of its rows for itself.
constexpr int column_blocks(int dim) {
  return (dim + kColumns - 1) / kColumns;
}
constexpr int row_blocks(std::int64_t rows) {
  return static_cast<int>((rows + kRows - 1) / kRows);
}
struct PlainBlock {
  HeadBlock head;
  int first_row, column;
};
GPU_FN PlainBlock plain_block(int heads, int rows, int dim) {
  const unsigned columns = static_cast<unsigned>(column_blocks(dim));
  const HeadBlock head = head_block(blockIdx.x / columns, heads, row_blocks(rows));
  return {head, head.row_block * kRows, static_cast<int>(blockIdx.x % columns) * kColumns};
}

}  // namespace onpa::kernels::plain
