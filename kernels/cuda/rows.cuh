// A warp's view of a row: what layer norm's kernels share.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::gpu {

constexpr int kRowWarps = 8;  // of a block; each has a row of its own
constexpr int kRowThreads = kRowWarps * kWarp;

/// Widest row that the lanes of a warp keep in registers.
constexpr std::int64_t kMaxRegisterCols = 1024;

/// Column of the first of kVec<T> neighbours that this lane keeps as piece `step` of its row.
template <class T>
GPU_FN int piece_column(int step) {
  return (step * kWarp + static_cast<int>(threadIdx.x) % kWarp) * kVec<T>;
}

/// This lane's pieces of a row of `cols` columns, zeros past its end. `row` is 16-byte aligned and
/// cols a multiple of kVec<T>.
template <class T, int kSteps>
GPU_FN void load_row(const T* row, int cols, float (&v)[kSteps][kVec<T>]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = piece_column<T>(step);
    if (column < cols) {
      load16(row + column, v[step]);
    } else {
#pragma unroll
      for (int j = 0; j < kVec<T>; ++j) v[step][j] = 0;
    }
  }
}

template <class T, int kSteps>
GPU_FN void store_row(T* row, int cols, const float (&v)[kSteps][kVec<T>]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = piece_column<T>(step);
    if (column < cols) store16(row + column, v[step]);
  }
}

/// v as it will be read back after it was stored as T.
template <class T>
GPU_FN float rounded(float v) {
  return static_cast<float>(static_cast<T>(v));
}

/// Calls f(std::integral_constant<int, kSteps>) with the least number of pieces a lane, of four
/// choices, that a row of `cols` <= kMaxRegisterCols columns takes.
template <class T, class F>
void with_row_steps(std::int64_t cols, const F& f) {
  constexpr int kQuarter = static_cast<int>(kMaxRegisterCols) / 4 / (kWarp * kVec<T>);
  constexpr std::int64_t kQuarterCols = kMaxRegisterCols / 4;
  if (cols <= kQuarterCols) {
    f(std::integral_constant<int, kQuarter>());
  } else if (cols <= 2 * kQuarterCols) {
    f(std::integral_constant<int, 2 * kQuarter>());
  } else if (cols <= 3 * kQuarterCols) {
    f(std::integral_constant<int, 3 * kQuarter>());
  } else {
    f(std::integral_constant<int, 4 * kQuarter>());
  }
}

}  // namespace onpa::gpu
