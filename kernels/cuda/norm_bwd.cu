#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/norm.h"

namespace onpa::kernels {
namespace {

using gpu::kRowThreads, gpu::kRowWarps, gpu::kVec, gpu::kWarp;

// What the kernels get: dx = add + gradient, add null for none; dx null where it is not wanted,
// partial null where parameter gradients are not. `partial` is (chunks, 2, cols): each chunk's sum
// for dweight, then for dbias.
template <class T>
struct Bwd {
  const T *dy, *x, *weight;
  const float *mean, *rstd;
  const T* add;
  T* dx;
  float* partial;
  std::int64_t rows, cols, chunk_rows;
};

// A block has a chunk of rows, a warp every kRowWarps-th row of it. The row stays in registers, and
// so do the warp's sums for the parameters, which the block adds up at the end.
template <class T, int kSteps>
__global__ void __launch_bounds__(kRowThreads) layer_norm_bwd_kernel(Bwd<T> a) {
  constexpr int kV = kVec<T>, kWidth = kWarp * kV;
  GPU_SHARED(sums, float[kRowWarps][kWidth]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int cols = static_cast<int>(a.cols);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * a.chunk_rows;
  const std::int64_t last = min(first + a.chunk_rows, a.rows);

  float dparams[2][kSteps][kV] = {};  // dweight, dbias
  for (std::int64_t row = first + warp; row < last; row += kRowWarps) {
    const std::int64_t at = row * a.cols;
    float dy[kSteps][kV], xhat[kSteps][kV];
    gpu::load_row(a.dy + at, cols, dy);
    gpu::load_row(a.x + at, cols, xhat);
    const float mean = a.mean[row], rstd = a.rstd[row];
    float g_sum = 0, gx_sum = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = gpu::piece_column<T>(step);
      if (column < cols) {
        float weight[kV];
        gpu::load16(a.weight + column, weight);
#pragma unroll
        for (int j = 0; j < kV; ++j) {
          xhat[step][j] = (xhat[step][j] - mean) * rstd;
          dparams[0][step][j] = fmaf(dy[step][j], xhat[step][j], dparams[0][step][j]);
          dparams[1][step][j] += dy[step][j];
          dy[step][j] *= weight[j];
          g_sum += dy[step][j];
          gx_sum = fmaf(dy[step][j], xhat[step][j], gx_sum);
        }
      }
    }
    if (a.dx == nullptr) continue;
    const float g_mean = gpu::warp_sum(g_sum) / static_cast<float>(cols);
    const float gx_mean = gpu::warp_sum(gx_sum) / static_cast<float>(cols);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = gpu::piece_column<T>(step);
      if (column < cols) {
        float add[kV] = {};
        if (a.add != nullptr) gpu::load16(a.add + at + column, add);
#pragma unroll
        for (int j = 0; j < kV; ++j) {
          const float centred = dy[step][j] - g_mean - xhat[step][j] * gx_mean;
          add[j] = fmaf(centred, rstd, add[j]);
        }
        gpu::store16(a.dx + at + column, add);
      }
    }
  }

  if (a.partial == nullptr) return;
  float* partial = a.partial + static_cast<std::int64_t>(blockIdx.x) * 2 * a.cols;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      __syncthreads();  // the sums of the piece before have been read
#pragma unroll
      for (int j = 0; j < kV; ++j) sums[warp][lane * kV + j] = dparams[k][step][j];
      __syncthreads();
      const int column = step * kWidth + static_cast<int>(threadIdx.x);
      if (static_cast<int>(threadIdx.x) < kWidth && column < cols) {
        float sum = 0;
        for (int w = 0; w < kRowWarps; ++w) sum += sums[w][threadIdx.x];
        partial[k * a.cols + column] = sum;
      }
    }
  }
}

// dx for any width and alignment: one warp sweeps twice over its row.
template <class T>
__global__ void __launch_bounds__(kRowThreads) layer_norm_dx_sweep_kernel(Bwd<T> a) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  if (row >= a.rows) return;
  const std::int64_t at = row * a.cols;
  const float mean = a.mean[row], rstd = a.rstd[row];
  float g_sum = 0, gx_sum = 0;
  for (std::int64_t c = lane; c < a.cols; c += kWarp) {
    const float g = static_cast<float>(a.dy[at + c]) * static_cast<float>(a.weight[c]);
    g_sum += g;
    gx_sum = fmaf(g, (static_cast<float>(a.x[at + c]) - mean) * rstd, gx_sum);
  }
  const float g_mean = gpu::warp_sum(g_sum) / static_cast<float>(a.cols);
  const float gx_mean = gpu::warp_sum(gx_sum) / static_cast<float>(a.cols);
  for (std::int64_t c = lane; c < a.cols; c += kWarp) {
    const float g = static_cast<float>(a.dy[at + c]) * static_cast<float>(a.weight[c]);
    const float xhat = (static_cast<float>(a.x[at + c]) - mean) * rstd;
    const float add = a.add == nullptr ? 0.0f : static_cast<float>(a.add[at + c]);
    a.dx[at + c] = static_cast<T>(fmaf(g - g_mean - xhat * gx_mean, rstd, add));
  }
}

// Parameter gradients for any width and alignment: a block has 32 columns of a chunk of rows.
template <class T>
__global__ void __launch_bounds__(kRowThreads) layer_norm_dparam_sweep_kernel(Bwd<T> a) {
  GPU_SHARED(sums, float[2][kRowWarps][kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * a.chunk_rows;
  const std::int64_t last = min(first + a.chunk_rows, a.rows);
  float dweight = 0, dbias = 0;
  if (column < a.cols) {
    for (std::int64_t row = first + warp; row < last; row += kRowWarps) {
      const float dy = static_cast<float>(a.dy[row * a.cols + column]);
      const float x = static_cast<float>(a.x[row * a.cols + column]);
      dweight = fmaf(dy, (x - a.mean[row]) * a.rstd[row], dweight);
      dbias += dy;
    }
  }
  sums[0][warp][lane] = dweight;
  sums[1][warp][lane] = dbias;
  __syncthreads();
  if (warp > 1 || column >= a.cols) return;
  float sum = 0;
  for (int w = 0; w < kRowWarps; ++w) sum += sums[warp][w][lane];
  a.partial[(static_cast<std::int64_t>(blockIdx.y) * 2 + warp) * a.cols + column] = sum;
}

// Enough chunks to fill a large GPU a few times over, few enough that their sums are small beside
// the rows.
gpu::Chunks row_chunks(std::int64_t rows) {
  return gpu::chunks_of(rows, 2 * kRowWarps, 768);
}

template <class T>
void start(Cuda dev, const Bwd<T>& a) {
  const cudaStream_t stream = gpu::stream_of(dev);
  const auto chunks = static_cast<unsigned>(row_chunks(a.rows).count);
  if (a.cols <= gpu::kMaxRegisterCols && a.cols % kVec<T> == 0 &&
      gpu::aligned16(a.dy, a.x, a.weight, a.add, a.dx)) {
    gpu::with_row_steps<T>(a.cols, [&](auto steps) {
      gpu::launch(layer_norm_bwd_kernel<T, steps()>, chunks, kRowThreads, 0, stream, a);
    });
    return;
  }
  if (a.dx != nullptr) {
    gpu::launch(layer_norm_dx_sweep_kernel<T>, gpu::blocks_for(a.rows, kRowWarps), kRowThreads, 0,
                stream, a);
  }
  if (a.partial != nullptr) {
    gpu::launch(layer_norm_dparam_sweep_kernel<T>, dim3(gpu::blocks_for(a.cols, kWarp), chunks),
                kRowThreads, 0, stream, a);
  }
}

template <class Args>
std::size_t workspace_bytes(const Args& a) {
  if (a.dweight == nullptr && a.dbias == nullptr) return 0;
  return static_cast<std::size_t>(row_chunks(a.rows).count * 2 * a.cols) * sizeof(float);
}

template <class T, class Args>
void backward(Cuda dev, const Args& a, const T* x, const T* add) {
  const bool params = a.dweight != nullptr || a.dbias != nullptr;
  if (!params && a.dx == nullptr) return;
  float* partial = params ? static_cast<float*>(a.workspace) : nullptr;
  const gpu::Chunks chunks = row_chunks(a.rows);
  start<T>(dev,
           {a.dy, x, a.weight, a.mean, a.rstd, add, a.dx, partial, a.rows, a.cols, chunks.size});
  if (!params) return;
  gpu::launch_column_totals(
      dev,
      gpu::ColumnTotals<T, 2>{
          partial, chunks.count, a.cols, {a.dweight, a.dbias}, {a.dweight_mode, a.dbias_mode}});
}

}  // namespace

template <class T>
std::size_t layer_norm_bwd_workspace_bytes(Cuda, const LayerNormBwd<T>& a) {
  return workspace_bytes(a);
}
template <class T>
std::size_t add_layer_norm_bwd_workspace_bytes(Cuda, const AddLayerNormBwd<T>& a) {
  return workspace_bytes(a);
}

template <class T>
void layer_norm_bwd(Cuda dev, const LayerNormBwd<T>& a) {
  backward<T>(dev, a, a.x, a.dx_mode == GradMode::kAccumulate ? a.dx : nullptr);
}
template <class T>
void add_layer_norm_bwd(Cuda dev, const AddLayerNormBwd<T>& a) {
  backward<T>(dev, a, a.s, a.ds);
}

template std::size_t layer_norm_bwd_workspace_bytes(Cuda, const LayerNormBwd<float>&);
template std::size_t layer_norm_bwd_workspace_bytes(Cuda, const LayerNormBwd<bf16>&);
template std::size_t add_layer_norm_bwd_workspace_bytes(Cuda, const AddLayerNormBwd<float>&);
template std::size_t add_layer_norm_bwd_workspace_bytes(Cuda, const AddLayerNormBwd<bf16>&);
template void layer_norm_bwd<float>(Cuda, const LayerNormBwd<float>&);
template void layer_norm_bwd<bf16>(Cuda, const LayerNormBwd<bf16>&);
template void add_layer_norm_bwd<float>(Cuda, const AddLayerNormBwd<float>&);
template void add_layer_norm_bwd<bf16>(Cuda, const AddLayerNormBwd<bf16>&);

}  // namespace onpa::kernels
