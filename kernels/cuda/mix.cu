#include "kernels/mix.h"

#include "kernels/cuda/launch.cuh"

namespace onpa::kernels {
namespace {

constexpr int kThreads = 256;

// Blocks along x share a row; rows along y.
__global__ void __launch_bounds__(kThreads) mix_rows_kernel(MixRows a) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= a.cols) return;
  for (std::int64_t b = blockIdx.y; b < a.batch; b += gridDim.y) {
    const float weight = a.weight[b];
    a.y[b * a.cols + column] =
        weight * a.x[b * a.cols + column] + (1 - weight) * a.x[a.partner[b] * a.cols + column];
  }
}

}  // namespace

void mix_rows(Cuda dev, const MixRows& a) {
  constexpr std::int64_t kMostRows = 65535;  // of a grid
  const auto rows = static_cast<unsigned>(a.batch < kMostRows ? a.batch : kMostRows);
  gpu::launch(mix_rows_kernel, dim3(gpu::blocks_for(a.cols, kThreads), rows), dim3(kThreads), 0,
              gpu::stream_of(dev), a);
}

}  // namespace onpa::kernels
