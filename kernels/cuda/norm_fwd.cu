#include "kernels/cuda/rows.cuh"
#include "kernels/norm.h"

namespace onpa::kernels {
namespace {

using gpu::kRowThreads, gpu::kRowWarps, gpu::kVec, gpu::kWarp;

GPU_FN std::int64_t row_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
}

template <class T>
GPU_FN void store_statistics(const AddLayerNormFwd<T>& a, std::int64_t row, float mean,
                             float rstd) {
  if (threadIdx.x % kWarp == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

// One warp a row, which it keeps in registers: every value is read once. A null a.residual makes it
// plain layer norm.
template <class T, int kSteps>
__global__ void __launch_bounds__(kRowThreads) layer_norm_fwd_kernel(AddLayerNormFwd<T> a) {
  constexpr int kV = kVec<T>;
  const std::int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const int cols = static_cast<int>(a.cols);
  const std::int64_t at = row * a.cols;

  float x[kSteps][kV];
  gpu::load_row(a.x + at, cols, x);
  if (a.residual != nullptr) {
    float residual[kSteps][kV];
    gpu::load_row(a.residual + at, cols, residual);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int j = 0; j < kV; ++j) x[step][j] = gpu::rounded<T>(x[step][j] + residual[step][j]);
    }
    gpu::store_row(a.s + at, cols, x);
  }

  float sum = 0;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int j = 0; j < kV; ++j) sum += x[step][j];
  }
  const float mean = gpu::warp_sum(sum) / static_cast<float>(cols);
  // Deviations are summed on their own: E[x^2] - mean^2 would cancel.
  float squares = 0;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    if (gpu::piece_column<T>(step) < cols) {
#pragma unroll
      for (int j = 0; j < kV; ++j) {
        const float deviation = x[step][j] - mean;
        squares = fmaf(deviation, deviation, squares);
      }
    }
  }
  const float rstd = rsqrtf(gpu::warp_sum(squares) / static_cast<float>(cols) + a.eps);
  store_statistics(a, row, mean, rstd);

#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = gpu::piece_column<T>(step);
    if (column < cols) {
      float weight[kV], bias[kV], y[kV];
      gpu::load16(a.weight + column, weight);
      gpu::load16(a.bias + column, bias);
#pragma unroll
      for (int j = 0; j < kV; ++j) y[j] = fmaf((x[step][j] - mean) * rstd, weight[j], bias[j]);
      gpu::store16(a.y + at + column, y);
    }
  }
}

// The same for any width and alignment: one warp sweeps three times over its row. A lane only reads
// back what it wrote itself.
template <class T>
__global__ void __launch_bounds__(kRowThreads) layer_norm_fwd_sweep_kernel(AddLayerNormFwd<T> a) {
  const std::int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t at = row * a.cols;
  const T* x = a.x + at;
  float sum = 0;
  if (a.residual == nullptr) {
    for (std::int64_t c = lane; c < a.cols; c += kWarp) sum += static_cast<float>(x[c]);
  } else {
    for (std::int64_t c = lane; c < a.cols; c += kWarp) {
      const T s = static_cast<T>(static_cast<float>(x[c]) + static_cast<float>(a.residual[at + c]));
      a.s[at + c] = s;
      sum += static_cast<float>(s);
    }
    x = a.s + at;
  }
  const float mean = gpu::warp_sum(sum) / static_cast<float>(a.cols);
  float squares = 0;
  for (std::int64_t c = lane; c < a.cols; c += kWarp) {
    const float deviation = static_cast<float>(x[c]) - mean;
    squares = fmaf(deviation, deviation, squares);
  }
  const float rstd = rsqrtf(gpu::warp_sum(squares) / static_cast<float>(a.cols) + a.eps);
  store_statistics(a, row, mean, rstd);
  for (std::int64_t c = lane; c < a.cols; c += kWarp) {
    const float xhat = (static_cast<float>(x[c]) - mean) * rstd;
    a.y[at + c] =
        static_cast<T>(fmaf(xhat, static_cast<float>(a.weight[c]), static_cast<float>(a.bias[c])));
  }
}

}  // namespace

template <class T>
void add_layer_norm_fwd(Cuda dev, const AddLayerNormFwd<T>& a) {
  const unsigned blocks = gpu::blocks_for(a.rows, kRowWarps);
  const cudaStream_t stream = gpu::stream_of(dev);
  if (a.cols <= gpu::kMaxRegisterCols && a.cols % kVec<T> == 0 &&
      gpu::aligned16(a.x, a.residual, a.weight, a.bias, a.s, a.y)) {
    gpu::with_row_steps<T>(a.cols, [&](auto steps) {
      gpu::launch(layer_norm_fwd_kernel<T, steps()>, blocks, kRowThreads, 0, stream, a);
    });
  } else {
    gpu::launch(layer_norm_fwd_sweep_kernel<T>, blocks, kRowThreads, 0, stream, a);
  }
}

template <class T>
void layer_norm_fwd(Cuda dev, const LayerNormFwd<T>& a) {
  add_layer_norm_fwd<T>(dev, {.x = a.x,
                              .residual = nullptr,
                              .weight = a.weight,
                              .bias = a.bias,
                              .s = nullptr,
                              .y = a.y,
                              .mean = a.mean,
                              .rstd = a.rstd,
                              .rows = a.rows,
                              .cols = a.cols,
                              .eps = a.eps});
}

template void layer_norm_fwd<float>(Cuda, const LayerNormFwd<float>&);
template void layer_norm_fwd<bf16>(Cuda, const LayerNormFwd<bf16>&);
template void add_layer_norm_fwd<float>(Cuda, const AddLayerNormFwd<float>&);
template void add_layer_norm_fwd<bf16>(Cuda, const AddLayerNormFwd<bf16>&);

}  // namespace onpa::kernels
