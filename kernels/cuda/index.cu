#include "kernels/index.h"

#include "kernels/cuda/map.cuh"

namespace onpa::kernels {
namespace {

using gpu::kVec, gpu::kWarp;

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / kWarp;  // one warp a row

// y[b, t, :] (+)= scale * x[b, t * x_step, :] for t < count, zeros for count <= t < rows. y has
// y_rows rows a sample, x x_rows.
template <class T>
struct SpreadRows {
  const T* x;
  T* y;
  std::int64_t batch, rows, count, cols;
  std::int64_t x_rows, x_step, y_rows;
  float scale;
  bool accumulate;
  bool aligned;  // pointers and rows, to 16 bytes: then a row is whole pieces
};

template <class T>
__global__ void __launch_bounds__(kThreads) spread_rows_kernel(SpreadRows<T> a) {
  constexpr int kV = kVec<T>;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= a.batch * a.rows) return;
  const std::int64_t sample = row / a.rows, t = row - sample * a.rows;
  const bool given = t < a.count;
  const T* x = a.x + (sample * a.x_rows + (given ? t * a.x_step : 0)) * a.cols;
  T* y = a.y + (sample * a.y_rows + t) * a.cols;
  for (std::int64_t c = threadIdx.x % kWarp * kV; c < a.cols; c += kWarp * kV) {
    const std::int64_t left = a.cols - c;
    float v[kV] = {};
    if (given) gpu::load_piece(x + c, a.aligned, left, v);
#pragma unroll
    for (int j = 0; j < kV; ++j) v[j] *= a.scale;
    if (a.accumulate) {
      float old[kV];
      gpu::load_piece(y + c, a.aligned, left, old);
#pragma unroll
      for (int j = 0; j < kV; ++j) v[j] += old[j];
    }
    gpu::store_piece(y + c, a.aligned, left, v);
  }
}

template <class T>
void launch_spread(Cuda dev, SpreadRows<T> a) {
  a.aligned = gpu::aligned16(a.x, a.y) && a.cols % kVec<T> == 0;
  gpu::launch(spread_rows_kernel<T>, gpu::blocks_for(a.batch * a.rows, kRowsPerBlock), kThreads, 0,
              gpu::stream_of(dev), a);
}

template <class T>
struct LeadingMean {
  LeadingTokens<T> a;
  std::int64_t pieces_per_row;
  bool aligned;
};

// A thread sums its columns of a sample's tokens in order; there are few tokens.
template <class T>
__global__ void __launch_bounds__(kThreads) leading_mean_fwd_kernel(LeadingMean<T> args) {
  constexpr int kV = kVec<T>;
  const LeadingTokens<T>& a = args.a;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (piece >= a.batch * args.pieces_per_row) return;
  const std::int64_t sample = piece / args.pieces_per_row;
  const std::int64_t c = (piece - sample * args.pieces_per_row) * kV, left = a.cols - c;
  const T* x = a.x + sample * a.tokens * a.cols + c;
  float sum[kV] = {};
  for (std::int64_t t = 0; t < a.count; ++t) {
    float v[kV];
    gpu::load_piece(x + t * a.cols, args.aligned, left, v);
#pragma unroll
    for (int j = 0; j < kV; ++j) sum[j] += v[j];
  }
  const float scale = 1.0f / static_cast<float>(a.count);
#pragma unroll
  for (int j = 0; j < kV; ++j) sum[j] *= scale;
  gpu::store_piece(a.y + sample * a.cols + c, args.aligned, left, sum);
}

// Rows that a backward pass writes: those past `count` only where they become 0.
template <class T>
std::int64_t written_rows(const LeadingTokens<T>& a) {
  return a.mode == GradMode::kAssign ? a.tokens : a.count;
}

}  // namespace

template <class T>
void leading_rows_fwd(Cuda dev, const LeadingTokens<T>& a) {
  launch_spread<T>(
      dev, {a.x, a.y, a.batch, a.count, a.count, a.cols, a.tokens, 1, a.count, 1.0f, false, false});
}

template <class T>
void leading_rows_bwd(Cuda dev, const LeadingTokens<T>& a) {
  launch_spread<T>(dev, {a.x, a.y, a.batch, written_rows(a), a.count, a.cols, a.count, 1, a.tokens,
                         1.0f, a.mode == GradMode::kAccumulate, false});
}

template <class T>
void leading_mean_fwd(Cuda dev, const LeadingTokens<T>& a) {
  constexpr int kV = kVec<T>;
  const LeadingMean<T> args{a, (a.cols + kV - 1) / kV,
                            gpu::aligned16(a.x, a.y) && a.cols % kV == 0};
  gpu::launch(leading_mean_fwd_kernel<T>, gpu::blocks_for(a.batch * args.pieces_per_row, kThreads),
              kThreads, 0, gpu::stream_of(dev), args);
}

template <class T>
void leading_mean_bwd(Cuda dev, const LeadingTokens<T>& a) {
  launch_spread<T>(dev,
                   {a.x, a.y, a.batch, written_rows(a), a.count, a.cols, 1, 0, a.tokens,
                    1.0f / static_cast<float>(a.count), a.mode == GradMode::kAccumulate, false});
}

template void leading_rows_fwd<float>(Cuda, const LeadingTokens<float>&);
template void leading_rows_fwd<bf16>(Cuda, const LeadingTokens<bf16>&);
template void leading_rows_bwd<float>(Cuda, const LeadingTokens<float>&);
template void leading_rows_bwd<bf16>(Cuda, const LeadingTokens<bf16>&);
template void leading_mean_fwd<float>(Cuda, const LeadingTokens<float>&);
template void leading_mean_fwd<bf16>(Cuda, const LeadingTokens<bf16>&);
template void leading_mean_bwd<float>(Cuda, const LeadingTokens<float>&);
template void leading_mean_bwd<bf16>(Cuda, const LeadingTokens<bf16>&);

}  // namespace onpa::kernels
