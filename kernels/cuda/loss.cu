#include "kernels/loss.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/loss_cell.cuh"
#include "kernels/cuda/totals.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::kernels {
namespace {

using gpu::kWarp;

constexpr int kThreads = gpu::kTotalThreads;
constexpr int kRowsPerBlock = kThreads / kWarp;  // cross-entropy: one warp a row

template <LossKind kKind, class T>
__global__ void __launch_bounds__(kThreads)
    cells_fwd_kernel(LossFwd<T> a, std::int64_t chunk, double* partial) {
  const std::int64_t n = a.rows * a.cols;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * chunk;
  const std::int64_t last = min(first + chunk, n);
  double sum = 0;
  for (std::int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    sum += gpu::cell_loss<kKind>(static_cast<float>(a.x[i]), a.target[i], a.delta);
  }
  gpu::store_partial(sum, partial);
}

template <LossKind kKind, class T>
__global__ void __launch_bounds__(kThreads) cells_bwd_kernel(LossBwd<T> a) {
  const std::int64_t n = a.rows * a.cols;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float scale = a.dloss[0] / static_cast<float>(n);
  float slope = scale * gpu::cell_slope<kKind>(static_cast<float>(a.x[i]), a.target[i], a.delta);
  if (a.mode == GradMode::kAccumulate) slope += static_cast<float>(a.dx[i]);
  a.dx[i] = static_cast<T>(slope);
}

// What a row of logits is normalised by: softmax_c = exp(x_c - max) / sum. The same in all lanes.
struct RowStatistics {
  float max, sum, target_sum;
};

template <class T>
GPU_FN RowStatistics row_statistics(const T* x, const float* t, std::int64_t cols) {
  const int lane = threadIdx.x % kWarp;
  float max = -INFINITY;
  for (std::int64_t c = lane; c < cols; c += kWarp) max = fmaxf(max, static_cast<float>(x[c]));
  max = gpu::warp_max(max);
  float sum = 0, target_sum = 0;
  for (std::int64_t c = lane; c < cols; c += kWarp) {
    sum += expf(static_cast<float>(x[c]) - max);
    target_sum += t[c];
  }
  return {max, gpu::warp_sum(sum), gpu::warp_sum(target_sum)};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rows_fwd_kernel(LossFwd<T> a, std::int64_t chunk, double* partial) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * chunk;
  const std::int64_t last = min(first + chunk, a.rows);
  double sum = 0;
  for (std::int64_t row = first + threadIdx.x / kWarp; row < last; row += kRowsPerBlock) {
    const T* x = a.x + row * a.cols;
    const float* t = a.target + row * a.cols;
    const RowStatistics s = row_statistics(x, t, a.cols);
    const float log_sum = logf(s.sum);
    for (std::int64_t c = threadIdx.x % kWarp; c < a.cols; c += kWarp) {
      sum += t[c] * (log_sum - (static_cast<float>(x[c]) - s.max));
    }
  }
  gpu::store_partial(sum, partial);
}

template <class T>
__global__ void __launch_bounds__(kThreads) rows_bwd_kernel(LossBwd<T> a) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= a.rows) return;
  const T* x = a.x + row * a.cols;
  const float* t = a.target + row * a.cols;
  T* dx = a.dx + row * a.cols;
  const RowStatistics s = row_statistics(x, t, a.cols);
  const float scale = a.dloss[0] / static_cast<float>(a.rows);
  const float weight = s.target_sum / s.sum;
  for (std::int64_t c = threadIdx.x % kWarp; c < a.cols; c += kWarp) {
    float slope = scale * (weight * expf(static_cast<float>(x[c]) - s.max) - t[c]);
    if (a.mode == GradMode::kAccumulate) slope += static_cast<float>(dx[c]);
    dx[c] = static_cast<T>(slope);
  }
}

// What is summed and averaged over, cells or rows of classes, and how blocks share it.
template <class T>
std::int64_t items_of(const LossFwd<T>& a) {
  return a.kind == LossKind::kCrossEntropy ? a.rows : a.rows * a.cols;
}
template <class T>
gpu::Chunks loss_chunks(const LossFwd<T>& a) {
  if (a.kind != LossKind::kCrossEntropy) return gpu::total_chunks(items_of(a));
  return gpu::chunks_of(a.rows, kRowsPerBlock, 4 * gpu::kTotalThreads);
}

}  // namespace

template <class T>
std::size_t loss_fwd_workspace_bytes(Cuda, const LossFwd<T>& a) {
  return static_cast<std::size_t>(loss_chunks(a).count) * sizeof(double);
}

template <class T>
void loss_fwd(Cuda dev, const LossFwd<T>& a) {
  const auto start = [&](void (*kernel)(LossFwd<T>, std::int64_t, double*)) {
    const gpu::Chunks chunks = loss_chunks(a);
    gpu::launch(kernel, static_cast<unsigned>(chunks.count), kThreads, 0, gpu::stream_of(dev), a,
                chunks.size, static_cast<double*>(a.workspace));
    // Of nothing the mean is 0 / 0.
    gpu::launch_total(dev, a.workspace, chunks.count, 1.0 / static_cast<double>(items_of(a)),
                      a.loss);
  };
  switch (a.kind) {
    case LossKind::kMse:
      return start(cells_fwd_kernel<LossKind::kMse, T>);
    case LossKind::kL1:
      return start(cells_fwd_kernel<LossKind::kL1, T>);
    case LossKind::kHuber:
      return start(cells_fwd_kernel<LossKind::kHuber, T>);
    case LossKind::kBceWithLogits:
      return start(cells_fwd_kernel<LossKind::kBceWithLogits, T>);
    case LossKind::kCrossEntropy:
      return start(rows_fwd_kernel<T>);
  }
}

template <class T>
void loss_bwd(Cuda dev, const LossBwd<T>& a) {
  const auto start = [&](void (*kernel)(LossBwd<T>), unsigned blocks) {
    gpu::launch(kernel, blocks, kThreads, 0, gpu::stream_of(dev), a);
  };
  const unsigned cell_blocks = gpu::blocks_for(a.rows * a.cols, kThreads);
  switch (a.kind) {
    case LossKind::kMse:
      return start(cells_bwd_kernel<LossKind::kMse, T>, cell_blocks);
    case LossKind::kL1:
      return start(cells_bwd_kernel<LossKind::kL1, T>, cell_blocks);
    case LossKind::kHuber:
      return start(cells_bwd_kernel<LossKind::kHuber, T>, cell_blocks);
    case LossKind::kBceWithLogits:
      return start(cells_bwd_kernel<LossKind::kBceWithLogits, T>, cell_blocks);
    case LossKind::kCrossEntropy:
      return start(rows_bwd_kernel<T>, gpu::blocks_for(a.rows, kRowsPerBlock));
  }
}

template std::size_t loss_fwd_workspace_bytes(Cuda, const LossFwd<float>&);
template std::size_t loss_fwd_workspace_bytes(Cuda, const LossFwd<bf16>&);
template void loss_fwd<float>(Cuda, const LossFwd<float>&);
template void loss_fwd<bf16>(Cuda, const LossFwd<bf16>&);
template void loss_bwd<float>(Cuda, const LossBwd<float>&);
template void loss_bwd<bf16>(Cuda, const LossBwd<bf16>&);

}  // namespace onpa::kernels
