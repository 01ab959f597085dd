// The device API computes what CUDA computes, under every schedule.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "tests/cuda/schedules.h"

namespace onpa {
namespace {

using testing::for_schedules;

__global__ void index_kernel(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(block * 1000 + thread);
}

TEST(CudaSim, EveryThreadOfEveryBlockRunsOnce) {
  for_schedules([] {
    for (const dim3 block : {dim3(1), dim3(7), dim3(4, 3, 2), dim3(1024)}) {
      const dim3 grid(3, 2, 2);
      const unsigned threads = block.x * block.y * block.z;
      std::vector<int> out(12 * threads, -1);
      gpu::launch(index_kernel, grid, block, 0, nullptr, out.data());
      for (unsigned i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i], static_cast<int>(i / threads * 1000 + i % threads));
      }
    }
  });
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) sum_kernel(float* out, const float* in, int n) {
  GPU_SHARED(partial, float[kThreads / 32]);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    sum += __ldg(in + blockIdx.x * static_cast<unsigned>(n) + i);
  }
  // Twice, to use the buffer again; block_sum wants a barrier in between.
  sum = gpu::block_sum<kThreads>(sum, partial);
  __syncthreads();
  const float twice = gpu::block_sum<kThreads>(sum, partial) / kThreads;
  if (threadIdx.x == 0) out[blockIdx.x] = sum, out[gridDim.x + blockIdx.x] = twice;
}

TEST(CudaSim, BlockSum) {
  for_schedules([] {
    constexpr int kRows = 5;
    for (const int n : {1, 31, 777}) {
      std::vector<float> in(static_cast<std::size_t>(kRows * n), 1.0f), out(2 * kRows);
      gpu::launch(sum_kernel<128>, kRows, 128, 0, nullptr, out.data(), in.data(), n);
      for (const float v : out) ASSERT_EQ(v, static_cast<float>(n));
    }
  });
}

__global__ void shuffle_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  constexpr unsigned kAll = 0xFFFFFFFFu;
  int* row = out + lane * 12;
  row[0] = __shfl_sync(kAll, lane * 10, 5);
  row[1] = __shfl_sync(kAll, lane * 10, 1, 8);
  row[2] = __shfl_up_sync(kAll, lane, 3);
  row[3] = __shfl_down_sync(kAll, lane, 3, 16);
  row[4] = __shfl_xor_sync(kAll, lane, 6);
  row[5] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  row[6] = __any_sync(kAll, lane == 31) * 2 + __all_sync(kAll, lane < 31);
  row[7] = __reduce_add_sync(kAll, lane) + __reduce_max_sync(kAll, -lane) * 1000;
  row[8] = static_cast<int>(__match_any_sync(kAll, lane % 4));
  // Each half on its own.
  const unsigned half = lane < 16 ? 0xFFFFu : 0xFFFF0000u;
  if (lane < 16) {
    row[9] = __reduce_min_sync(half, lane);
  } else {
    row[9] = __reduce_min_sync(half, lane);
  }
  row[10] = static_cast<int>(__shfl_xor_sync(half, 0.5 + lane, 1) * 2);
  __syncwarp();
  row[11] = __shfl_xor_sync(kAll, lane, 16, 16);
}

TEST(CudaSim, WarpCollectives) {
  for_schedules([] {
    std::vector<int> out(32 * 12);
    gpu::launch(shuffle_kernel, 1, 32, 0, nullptr, out.data());
    for (int lane = 0; lane < 32; ++lane) {
      const int* row = &out[static_cast<std::size_t>(lane * 12)];
      ASSERT_EQ(row[0], 50);
      ASSERT_EQ(row[1], (lane / 8 * 8 + 1) * 10);
      ASSERT_EQ(row[2], lane < 3 ? lane : lane - 3);
      ASSERT_EQ(row[3], lane % 16 + 3 >= 16 ? lane : lane + 3);
      ASSERT_EQ(row[4], lane ^ 6);
      ASSERT_EQ(row[5], 0x49249249);
      ASSERT_EQ(row[6], 2);
      ASSERT_EQ(row[7], 31 * 16);
      ASSERT_EQ(row[8], 0x11111111 << lane % 4);
      ASSERT_EQ(row[9], lane < 16 ? 0 : 16);
      ASSERT_EQ(row[10], 2 * (lane ^ 1) + 1);
      ASSERT_EQ(row[11], lane < 16 ? lane : lane - 16);
    }
  });
}

__global__ void vote_kernel(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = __syncthreads_count(i % 3 == 0);
  out[i] += 1000 * __syncthreads_and(i < 70) + 2000 * __syncthreads_and(i < 69);
  out[i] += 10000 * __syncthreads_or(i == 69) + 20000 * __syncthreads_or(i == 70);
}

TEST(CudaSim, BlockVotes) {
  for_schedules([] {
    std::vector<int> out(70);
    gpu::launch(vote_kernel, 1, 70, 0, nullptr, out.data());
    for (const int v : out) ASSERT_EQ(v, 24 + 1000 + 10000);
  });
}

__global__ void atomics_kernel(unsigned* counts, float* sum, int* least) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&counts[i % 3], 1u);
  atomicAdd(sum, 0.5f);
  atomicMin(least, -static_cast<int>(i));
  atomicMax(&counts[3], i);
  unsigned old = counts[4];
  for (unsigned seen; (seen = atomicCAS(&counts[4], old, old + 2)) != old;) old = seen;
}

TEST(CudaSim, Atomics) {
  for_schedules([] {
    std::vector<unsigned> counts(5);
    float sum = 0;
    int least = 0;
    gpu::launch(atomics_kernel, 4, 96, 0, nullptr, counts.data(), &sum, &least);
    EXPECT_EQ(counts, (std::vector<unsigned>{128, 128, 128, 383, 768}));
    EXPECT_EQ(sum, 192.0f);
    EXPECT_EQ(least, -383);
  });
}

// Block b waits for what block b - 1 writes: needs both to be resident.
__global__ void chain_kernel(int* flags, int* out) {
  if (blockIdx.x > 0) {
    while (atomicAdd(&flags[blockIdx.x - 1], 0) == 0) {
    }
    __threadfence();
  }
  out[blockIdx.x] = blockIdx.x > 0 ? out[blockIdx.x - 1] + 1 : 0;
  __threadfence();
  atomicExch(&flags[blockIdx.x], 1);
}

TEST(CudaSim, SpinningOnAnotherBlockEndsWhenItIsResident) {
  for (const auto policy : {sim::Policy::kInOrder, sim::Policy::kReverse, sim::Policy::kUniform,
                            sim::Policy::kPriority}) {
    const sim::Options before = sim::options();
    sim::options().policy = policy;
    sim::options().resident_blocks = 6;
    std::vector<int> flags(6), out(6);
    gpu::launch(chain_kernel, 6, 1, 0, nullptr, flags.data(), out.data());
    sim::options() = before;
    EXPECT_EQ(out.back(), 5);
  }
}

__global__ void dynamic_kernel(float* out, int n, int m) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  float* a = carve.take<float>(static_cast<std::size_t>(n));
  bf16* b = carve.take<bf16>(static_cast<std::size_t>(m));
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    a[i] = static_cast<float>(i);
  }
  for (int i = static_cast<int>(threadIdx.x); i < m; i += static_cast<int>(blockDim.x)) {
    b[i] = bf16(1.0f);
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i];
  for (int i = 0; i < m; ++i) sum += static_cast<float>(b[i]);
  out[blockIdx.x] = sum;
}

TEST(CudaSim, DynamicSharedMemory) {
  for_schedules([] {
    std::vector<float> out(3);
    const std::size_t bytes = gpu::carved_bytes<float>(37) + gpu::carved_bytes<bf16>(5);
    gpu::launch(dynamic_kernel, 3, 64, bytes, nullptr, out.data(), 37, 5);
    for (const float v : out) ASSERT_EQ(v, 37 * 36 / 2 + 5);
  });
}

TEST(CudaSim, LaunchSinkKeepsALaunchForLater) {
  std::vector<sim::Launch> kept;
  const auto before =
      sim::set_launch_sink([&kept](sim::Launch launch) { kept.push_back(std::move(launch)); });
  std::vector<int> out(8, -1);
  gpu::launch(index_kernel, 2, 4, 0, nullptr, out.data());
  sim::set_launch_sink(before);
  EXPECT_EQ(out[0], -1);
  ASSERT_EQ(kept.size(), 1u);
  sim::run(kept[0]);
  EXPECT_EQ(out[5], 1001);
}

}  // namespace
}  // namespace onpa
