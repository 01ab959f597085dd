#include "kernels/elementwise.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/totals.cuh"

namespace onpa::kernels {
namespace {

using gpu::kVec, gpu::kWarp;

struct Scale {
  float alpha;
  GPU_FN float operator()(float a) const { return alpha * a; }
};

struct ScaledSum {
  float alpha, beta;
  GPU_FN float operator()(float a, float b) const { return fmaf(alpha, a, beta * b); }
};

struct Product {
  GPU_FN float operator()(float a, float b) const { return a * b; }
};

template <class T>
struct Scalar {
  const T* x;
  float alpha;
  GPU_FN float operator()() const { return alpha * static_cast<float>(*x); }
};

constexpr int kColumnWarps = 8;
constexpr int kColumnThreads = kColumnWarps * kWarp;

template <class T>
struct ColumnSumArgs {
  const T* x;
  std::int64_t ldx, rows, cols, chunk_rows;
  float* partial;  // (chunks, cols)
};

// A warp reads a stripe of 32 kVec<T> columns of every eighth row of its chunk. A lane's columns
// are neighbours where they come in one load, 32 apart where they are read one by one.
template <class T, bool kAligned>
__global__ void __launch_bounds__(kColumnThreads) column_sum_kernel(ColumnSumArgs<T> a) {
  constexpr int kV = kVec<T>, kStripe = kWarp * kV;
  GPU_SHARED(sums, float[kColumnWarps][kStripe]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * kStripe;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * a.chunk_rows;
  const std::int64_t last = min(first + a.chunk_rows, a.rows);
  float sum[kV] = {};
  for (std::int64_t row = first + warp; row < last; row += kColumnWarps) {
    const T* x = a.x + row * a.ldx;
    if constexpr (kAligned) {
      const std::int64_t column = first_column + lane * kV;
      if (column < a.cols) {
        float v[kV];
        gpu::load16(x + column, v);
#pragma unroll
        for (int j = 0; j < kV; ++j) sum[j] += v[j];
      }
    } else {
#pragma unroll
      for (int j = 0; j < kV; ++j) {
        const std::int64_t column = first_column + j * kWarp + lane;
        if (column < a.cols) sum[j] += static_cast<float>(x[column]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kV; ++j) sums[warp][kAligned ? lane * kV + j : j * kWarp + lane] = sum[j];
  __syncthreads();
  const std::int64_t column = first_column + threadIdx.x;
  if (threadIdx.x >= kStripe || column >= a.cols) return;
  float total = 0;
  for (int w = 0; w < kColumnWarps; ++w) total += sums[w][threadIdx.x];
  a.partial[static_cast<std::int64_t>(blockIdx.y) * a.cols + column] = total;
}

// Two blocks or so for each multiprocessor of a large GPU at a width of 768.
gpu::Chunks row_chunks(std::int64_t rows) {
  return gpu::chunks_of(rows, 4 * kColumnWarps, 128);
}

template <class T>
__global__ void __launch_bounds__(gpu::kTotalThreads)
    sum_kernel(const T* x, std::int64_t n, std::int64_t chunk, double* partial) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * chunk;
  const std::int64_t last = min(first + chunk, n);
  double sum = 0;
  for (std::int64_t i = first + threadIdx.x; i < last; i += gpu::kTotalThreads) {
    sum += static_cast<double>(static_cast<float>(x[i]));
  }
  gpu::store_partial(sum, partial);
}

}  // namespace

template <class T>
void axpby(Cuda dev, const Axpby<T>& a) {
  if (a.b == nullptr) {
    gpu::launch_map(dev, gpu::Map<T, 1>{{a.a}, a.y, a.n, false, false}, Scale{a.alpha});
  } else {
    gpu::launch_map(dev, gpu::Map<T, 2>{{a.a, a.b}, a.y, a.n, false, false},
                    ScaledSum{a.alpha, a.beta});
  }
}

template <class T>
void multiply(Cuda dev, const Multiply<T>& a) {
  gpu::launch_map(dev, gpu::Map<T, 2>{{a.a, a.b}, a.y, a.n, a.mode == GradMode::kAccumulate, false},
                  Product{});
}

template <class T>
void broadcast_scalar(Cuda dev, const BroadcastScalar<T>& a) {
  gpu::launch_map(dev, gpu::Map<T, 0>{{}, a.y, a.n, a.mode == GradMode::kAccumulate, false},
                  Scalar<T>{a.x, a.alpha});
}

template <class T>
std::size_t column_sum_workspace_bytes(Cuda, const ColumnSum<T>& a) {
  return static_cast<std::size_t>(row_chunks(a.rows).count * a.cols) * sizeof(float);
}

template <class T>
void column_sum(Cuda dev, const ColumnSum<T>& a) {
  const gpu::Chunks chunks = row_chunks(a.rows);
  const ColumnSumArgs<T> args{a.x,    a.ldx,       a.rows,
                              a.cols, chunks.size, static_cast<float*>(a.workspace)};
  const dim3 grid(gpu::blocks_for(a.cols, kWarp * kVec<T>), static_cast<unsigned>(chunks.count));
  const bool aligned = gpu::aligned16(a.x) && a.ldx % kVec<T> == 0 && a.cols % kVec<T> == 0;
  gpu::launch(aligned ? column_sum_kernel<T, true> : column_sum_kernel<T, false>, grid,
              kColumnThreads, 0, gpu::stream_of(dev), args);
  gpu::launch_column_totals(
      dev, gpu::ColumnTotals<T, 1>{args.partial, chunks.count, a.cols, {a.y}, {a.mode}});
}

template <class T>
std::size_t sum_workspace_bytes(Cuda, const Sum<T>& a) {
  return static_cast<std::size_t>(gpu::total_chunks(a.n).count) * sizeof(double);
}

template <class T>
void sum(Cuda dev, const Sum<T>& a) {
  const gpu::Chunks chunks = gpu::total_chunks(a.n);
  gpu::launch(sum_kernel<T>, static_cast<unsigned>(chunks.count), gpu::kTotalThreads, 0,
              gpu::stream_of(dev), a.x, a.n, chunks.size, static_cast<double*>(a.workspace));
  gpu::launch_total(dev, a.workspace, chunks.count, static_cast<double>(a.alpha), a.y);
}

template void axpby<float>(Cuda, const Axpby<float>&);
template void axpby<bf16>(Cuda, const Axpby<bf16>&);
template void multiply<float>(Cuda, const Multiply<float>&);
template void multiply<bf16>(Cuda, const Multiply<bf16>&);
template void broadcast_scalar<float>(Cuda, const BroadcastScalar<float>&);
template void broadcast_scalar<bf16>(Cuda, const BroadcastScalar<bf16>&);
template std::size_t column_sum_workspace_bytes(Cuda, const ColumnSum<float>&);
template std::size_t column_sum_workspace_bytes(Cuda, const ColumnSum<bf16>&);
template void column_sum<float>(Cuda, const ColumnSum<float>&);
template void column_sum<bf16>(Cuda, const ColumnSum<bf16>&);
template std::size_t sum_workspace_bytes(Cuda, const Sum<float>&);
template std::size_t sum_workspace_bytes(Cuda, const Sum<bf16>&);
template void sum<float>(Cuda, const Sum<float>&);
template void sum<bf16>(Cuda, const Sum<bf16>&);

}  // namespace onpa::kernels
