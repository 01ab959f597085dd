// Second stage of sums over rows: partial sums of columns, one row of them per chunk of rows, are
// added up in a fixed order. The first stages are in norm_bwd.cu and elementwise.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/scalar.h"

namespace onpa::gpu {

// Each sums every sixteenth chunk: few loads one after the other, of which eight are in flight.
constexpr int kColumnTotalWarps = 16;

/// y[k][c] (+)= sum over chunks of partial[chunk][k * cols + c], for k < kOutputs; null y[k] are
/// skipped.
template <class T, int kOutputs>
struct ColumnTotals {
  const float* partial;  // (chunks, kOutputs * cols)
  std::int64_t chunks, cols;
  T* y[kOutputs];  // (cols)
  kernels::GradMode mode[kOutputs];
};

template <class T, int kOutputs>
__global__ void __launch_bounds__(kColumnTotalWarps* kWarp)
    column_totals_kernel(ColumnTotals<T, kOutputs> a) {
  GPU_SHARED(sums, float[kColumnTotalWarps][kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int k = blockIdx.y;
  T* y = a.y[0];
  kernels::GradMode mode = a.mode[0];
  if constexpr (kOutputs > 1) {
    if (k == 1) y = a.y[1], mode = a.mode[1];
  }
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const float* partial = a.partial + k * a.cols + column;
  float sum = 0;
  if (column < a.cols) {
#pragma unroll 8
    for (std::int64_t chunk = warp; chunk < a.chunks; chunk += kColumnTotalWarps) {
      sum += partial[chunk * kOutputs * a.cols];
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= a.cols || y == nullptr) return;
  for (int w = 1; w < kColumnTotalWarps; ++w) sum += sums[w][lane];
  if (mode == kernels::GradMode::kAccumulate) sum += static_cast<float>(y[column]);
  y[column] = static_cast<T>(sum);
}

template <class T, int kOutputs>
void launch_column_totals(kernels::Cuda dev, const ColumnTotals<T, kOutputs>& a) {
  static_assert(kOutputs <= 2);
  launch(column_totals_kernel<T, kOutputs>, dim3(blocks_for(a.cols, kWarp), kOutputs),
         kColumnTotalWarps * kWarp, 0, stream_of(dev), a);
}

}  // namespace onpa::gpu
