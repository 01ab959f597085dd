// Kernels with a bug each, chosen by the template argument, and whether a run of one gives the
// right result. Shared by the tests of what schedules find and of what ThreadSanitizer finds.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/scalar.h"

namespace onpa::planted {

enum class Bug {
  kNone,
  kNoBarrierBeforeRead,   // shared memory read while others may not have written it
  kNoBarrierBeforeReuse,  // shared memory written while others may still read it
  kNoWaitForLastCopy,
  kShuffleAsBarrier,
  kNoFence,
};

constexpr int kThreads = 128;

// y = (x - mean) / standard deviation, a block for each row.
template <Bug kBug>
__global__ void normalize_kernel(float* y, const float* x, int n) {
  GPU_SHARED(partial, float[kThreads / 32]);
  const int thread = static_cast<int>(threadIdx.x);
  const float* row = x + static_cast<std::int64_t>(blockIdx.x) * n;
  const auto total = [&](float v) {
    v = gpu::warp_sum(v);
    if (thread % 32 == 0) partial[thread / 32] = v;
    if constexpr (kBug != Bug::kNoBarrierBeforeRead) __syncthreads();
    float sum = 0;
    for (int i = 0; i < kThreads / 32; ++i) sum += partial[i];
    return sum;
  };
  float sum = 0;
  for (int i = thread; i < n; i += kThreads) sum += row[i];
  const float mean = total(sum) / static_cast<float>(n);
  if constexpr (kBug != Bug::kNoBarrierBeforeReuse) __syncthreads();
  sum = 0;
  for (int i = thread; i < n; i += kThreads) sum += (row[i] - mean) * (row[i] - mean);
  const float scale = rsqrtf(total(sum) / static_cast<float>(n));
  for (int i = thread; i < n; i += kThreads) {
    y[static_cast<std::int64_t>(blockIdx.x) * n + i] = (row[i] - mean) * scale;
  }
}

template <Bug kBug>
bool normalize_is_right() {
  constexpr int kRows = 3, kN = 200;
  std::vector<float> x(kRows * kN), y(kRows * kN);
  for (int i = 0; i < kRows * kN; ++i) x[static_cast<std::size_t>(i)] = sinf(static_cast<float>(i));
  gpu::launch(normalize_kernel<kBug>, kRows, kThreads, 0, nullptr, y.data(), x.data(), kN);
  for (int row = 0; row < kRows; ++row) {
    double sum = 0, squares = 0;
    for (int i = 0; i < kN; ++i) {
      const double v = static_cast<double>(y[static_cast<std::size_t>(row * kN + i)]);
      sum += v, squares += v * v;
    }
    // NaN is wrong too.
    if (!(std::abs(sum / kN) < 1e-5 && std::abs(squares / kN - 1) < 1e-5)) return false;
  }
  return true;
}

constexpr int kDepth = 320, kStep = 64, kPitch = 72, kPitchB = 24;

// y (64 x 8) = a (64 x kDepth) b (kDepth x 8): a warp for 16 rows, steps of 64 columns copied one
// step ahead; all warps copy and read the same tile of b.
template <Bug kBug>
__global__ void product_kernel(float* y, const bf16* a, const bf16* b) {
  GPU_SHARED(a_tiles, bf16[2][64 * kPitch]);
  GPU_SHARED(b_tiles, bf16[2][kStep * kPitchB]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const auto copy = [&](int step) {
    for (int i = thread; i < 64 * 8; i += kThreads) {
      gpu::cp_async16(&a_tiles[step % 2][i / 8 * kPitch + i % 8 * 8],
                      &a[i / 8 * kDepth + step * kStep + i % 8 * 8]);
    }
    const int row = thread / 2, half = thread % 2 * 8;
    gpu::cp_async16(&b_tiles[step % 2][row * kPitchB + half], &b[(step * kStep + row) * 8],
                    half == 0);
    gpu::cp_async_commit();
  };
  constexpr int kSteps = kDepth / kStep;
  float d[4] = {};
  copy(0);
  for (int step = 0; step < kSteps; ++step) {
    if (step + 1 < kSteps) {
      copy(step + 1);
      gpu::cp_async_wait<1>();
    } else {
      gpu::cp_async_wait<kBug == Bug::kNoWaitForLastCopy ? 1 : 0>();
    }
    if constexpr (kBug != Bug::kNoBarrierBeforeRead) __syncthreads();
    const int row = lane % 16, column = lane / 16 * 8;
    for (int k = 0; k < kStep; k += 16) {
      std::uint32_t ra[4], rb[4];
      gpu::ldmatrix_x4(ra, &a_tiles[step % 2][(warp * 16 + row) * kPitch + k + column]);
      gpu::ldmatrix_x4_trans(rb, &b_tiles[step % 2][(k + row) * kPitchB + column]);
      gpu::mma_bf16(d, ra, rb[0], rb[1]);
    }
    if constexpr (kBug != Bug::kNoBarrierBeforeReuse) __syncthreads();
  }
  float* out = y + warp * 16 * 8 + lane / 4 * 8 + lane % 4 * 2;
  out[0] = d[0], out[1] = d[1], out[64] = d[2], out[65] = d[3];
}

template <Bug kBug>
bool product_is_right() {
  std::vector<bf16> a(64 * kDepth), b(kDepth * 8);
  std::vector<float> y(64 * 8);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = bf16(sinf(static_cast<float>(i)));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = bf16(cosf(static_cast<float>(i)));
  gpu::launch(product_kernel<kBug>, 1, kThreads, 0, nullptr, y.data(), a.data(), b.data());
  for (std::size_t m = 0; m < 64; ++m) {
    for (std::size_t n = 0; n < 8; ++n) {
      float want = 0;
      for (std::size_t k = 0; k < kDepth; ++k) {
        want += static_cast<float>(a[m * kDepth + k]) * static_cast<float>(b[k * 8 + n]);
      }
      if (!(std::abs(y[m * 8 + n] - want) < 1e-4f)) return false;
    }
  }
  return true;
}

// Each warp transposes a 32 x 32 tile, a column per lane in and a row per lane out.
template <Bug kBug>
__global__ void transpose_kernel(int* y, const int* x) {
  GPU_SHARED(tile, int[2][32][33]);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 32; ++i) tile[warp][i][lane] = x[(warp * 32 + i) * 32 + lane];
  if constexpr (kBug == Bug::kNone) __syncwarp();
  if constexpr (kBug == Bug::kShuffleAsBarrier) (void)__shfl_sync(0xFFFFFFFFu, 0, 0);
  for (int i = 0; i < 32; ++i) y[(warp * 32 + i) * 32 + lane] = tile[warp][lane][i];
}

template <Bug kBug>
bool transpose_is_right() {
  std::vector<int> x(2 * 32 * 32), y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int>(i);
  gpu::launch(transpose_kernel<kBug>, 1, 64, 0, nullptr, y.data(), x.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (y[i / 1024 * 1024 + i % 32 * 32 + i / 32 % 32] != x[i]) return false;
  }
  return true;
}

// The block that finishes last adds what all have left in global memory.
template <Bug kBug>
__global__ void last_block_kernel(float* sum, float* partials, unsigned* finished) {
  GPU_SHARED(is_last, bool);
  const float v = gpu::warp_sum(1.0f);
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = v;
    if constexpr (kBug != Bug::kNoFence) __threadfence();
    is_last = atomicAdd(finished, 1u) + 1 == gridDim.x;
    if constexpr (kBug != Bug::kNoFence) __threadfence();
  }
  __syncthreads();
  if (!is_last || threadIdx.x > 0) return;
  float total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += partials[i];
  *sum = total;
}

template <Bug kBug>
bool last_block_is_right() {
  constexpr unsigned kBlocks = 6;
  float sum = 0;
  std::vector<float> partials(kBlocks);
  unsigned finished = 0;
  gpu::launch(last_block_kernel<kBug>, kBlocks, 32, 0, nullptr, &sum, partials.data(), &finished);
  return sum == 32.0f * kBlocks;
}

}  // namespace onpa::planted
