// What CUDA does not allow ends the launch with an error that says where; the next launch works.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/scalar.h"
#include "tests/cuda/schedules.h"

namespace onpa {
namespace {

constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr const char* kFile = "self_test_errors.cpp:";

__global__ void mark_kernel(int* out) {
  __syncthreads();
  out[threadIdx.x] = 1;
}

template <class F>
std::string error_of(F launch) {
  std::string message = "no error";
  try {
    launch();
  } catch (const sim::Error& error) {
    message = error.what();
  }
  std::vector<int> out(64);
  gpu::launch(mark_kernel, 1, 64, 0, nullptr, out.data());
  EXPECT_EQ(out, std::vector<int>(64, 1)) << "after: " << message;
  return message;
}

// Under every schedule the launch fails with a message that has all of `parts`.
template <class F>
void expect_error(F launch, std::initializer_list<const char*> parts) {
  testing::for_schedules([&] {
    const std::string message = error_of(launch);
    for (const char* part : parts) EXPECT_NE(message.find(part), message.npos) << message;
  });
}
template <class F>
void expect_kernel_error(F launch, const char* what) {
  expect_error(launch, {what, kFile, "in block (", "thread (", "SIM_SEED=", "SIM_POLICY="});
}

enum class Wrong {
  kDivergentBarriers,
  kHalfWarpShuffle,
  kExitAtBarrier,
  kExitInWarp,
  kDeadlock,
  kLivelock,
  kOtherShuffle,
  kOtherMask,
  kNotInMask,
  kReadsOutsideMask,
  kTrap,
  kCarverTooMuch,
  kCarversDiffer,
  kTooMuchShared,
  kMisalignedCopy,
  kMisalignedSource,
  kCopyToGlobal,
  kLdmatrixOfGlobal,
};

__device__ void wrong_in_warp(Wrong wrong, int thread) {
  switch (wrong) {
    case Wrong::kHalfWarpShuffle:
      if (thread % 32 < 16) (void)__shfl_xor_sync(kAll, 1, 1);
      break;
    case Wrong::kExitInWarp:
      if (thread == 7) return;
      __syncwarp();
      break;
    case Wrong::kOtherShuffle:
      if (thread % 2 == 0) {
        (void)__shfl_xor_sync(kAll, 1, 1);
      } else {
        (void)__shfl_sync(kAll, 1, 1);
      }
      break;
    case Wrong::kOtherMask:
      (void)__shfl_sync(thread % 32 < 8 ? 0xFFFFu : kAll, 1, 1);
      break;
    case Wrong::kNotInMask:
      __syncwarp(0xFFFEu);
      break;
    case Wrong::kReadsOutsideMask:
      if (thread % 32 < 8) (void)__shfl_sync(0xFFu, 1, 9);
      break;
    default:
      break;
  }
}

__device__ void wrong_memory(Wrong wrong, int thread, unsigned char* memory, bf16* global) {
  GPU_SHARED(tile, bf16[16 * 16]);
  std::uint32_t r[4];
  gpu::Carver carve{memory};
  switch (wrong) {
    case Wrong::kCarverTooMuch:
      (void)carve.take<float>(20);
      (void)carve.take<float>(13);
      break;
    case Wrong::kCarversDiffer:
      (void)carve.take<float>(thread == 40 ? 4 : 8);
      (void)carve.take<float>(4);
      break;
    case Wrong::kMisalignedCopy:
      gpu::cp_async16(&tile[thread % 2 * 4], global);
      break;
    case Wrong::kMisalignedSource:
      gpu::cp_async16(tile, global + 2);
      break;
    case Wrong::kCopyToGlobal:
      gpu::cp_async16(global + 8, global);
      break;
    case Wrong::kLdmatrixOfGlobal:
      gpu::ldmatrix_x4(r, global);
      break;
    default:
      break;
  }
}

__global__ void wrong_kernel(Wrong wrong, int* flag, bf16* global) {
  GPU_DYN_SHARED(memory);
  const int thread = static_cast<int>(threadIdx.x);
  switch (wrong) {
    case Wrong::kDivergentBarriers:
      if (thread < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
      break;
    case Wrong::kExitAtBarrier:
      if (thread == 3) return;
      __syncthreads();
      break;
    case Wrong::kDeadlock:
      if (thread % 32 == 5) {
        __syncthreads();
      } else {
        __syncwarp();
      }
      __syncthreads();
      break;
    case Wrong::kLivelock:
      while (atomicAdd(flag, 0) == 0) {
      }
      break;
    case Wrong::kTrap:
      if (thread == 33) __trap();
      break;
    case Wrong::kTooMuchShared: {
      GPU_SHARED(large, float[41700]);
      large[thread] = 0;
      break;
    }
    default:
      wrong_in_warp(wrong, thread);
      wrong_memory(wrong, thread, memory, global);
  }
}

void expect_kernel_error(Wrong wrong, const char* what) {
  expect_kernel_error(
      [wrong] {
        int flag = 0;
        alignas(16) bf16 global[32] = {};
        const auto most = sim::options().max_switches;
        if (wrong == Wrong::kLivelock) sim::options().max_switches = 10000;
        struct Restore {
          std::uint64_t most;
          ~Restore() { sim::options().max_switches = most; }
        } restore{most};
        gpu::launch(wrong_kernel, 2, 64, 128, nullptr, wrong, &flag, global);
      },
      what);
}

TEST(CudaSimErrors, DivergentBarriers) {
  expect_kernel_error(Wrong::kDivergentBarriers, "divergent barriers");
}
TEST(CudaSimErrors, HalfAWarpInAFullShuffle) {
  expect_kernel_error(Wrong::kHalfWarpShuffle, "__shfl_xor_sync: ");
}
TEST(CudaSimErrors, ThreadEndsWhileOthersWait) {
  expect_kernel_error(Wrong::kExitAtBarrier, "__syncthreads");
}
TEST(CudaSimErrors, LaneEndsWhileOthersWait) {
  expect_kernel_error(Wrong::kExitInWarp, "__syncwarp: ");
}
TEST(CudaSimErrors, DeadlockListsWhoWaitsWhere) {
  expect_kernel_error(Wrong::kDeadlock, "deadlock: no thread can go on\n  block (");
  expect_kernel_error(Wrong::kDeadlock, "threads 0-4: wait in __syncwarp mask 0xffffffff");
  expect_kernel_error(Wrong::kDeadlock, "threads 5-5: wait at __syncthreads");
}
TEST(CudaSimErrors, Livelock) {
  expect_kernel_error(Wrong::kLivelock, "livelock");
}
TEST(CudaSimErrors, OtherWarpOperation) {
  expect_kernel_error(Wrong::kOtherShuffle, "divergent warp: ");
}
TEST(CudaSimErrors, OtherMask) {
  expect_kernel_error(Wrong::kOtherMask, "divergent warp: ");
}
TEST(CudaSimErrors, CallerNotInItsMask) {
  expect_kernel_error(Wrong::kNotInMask, "__syncwarp: the calling lane is not in its mask 0x0000");
}
TEST(CudaSimErrors, ShuffleFromALaneOutsideTheMask) {
  expect_kernel_error(Wrong::kReadsOutsideMask, "reads lane 9, which is not in mask 0x000000ff");
}
TEST(CudaSimErrors, Trap) {
  expect_kernel_error(Wrong::kTrap, "__trap");
  expect_kernel_error(Wrong::kTrap, "thread (33, 0, 0)");
}
TEST(CudaSimErrors, CarverTakesMoreThanTheLaunchGave) {
  expect_kernel_error(Wrong::kCarverTooMuch, "Carver: takes 132 bytes, the launch gave 128");
}
TEST(CudaSimErrors, CarversOfThreadsDiffer) {
  expect_kernel_error(Wrong::kCarversDiffer, "Carver: this thread divides");
}
TEST(CudaSimErrors, TooMuchStaticSharedMemory) {
  expect_kernel_error(Wrong::kTooMuchShared, "large makes it 166928 bytes, have 166912");
}
TEST(CudaSimErrors, MisalignedCopy) {
  expect_kernel_error(Wrong::kMisalignedCopy, "cp.async destination is not 16-byte aligned");
  expect_kernel_error(Wrong::kMisalignedSource, "cp.async source is not 16-byte aligned");
}
TEST(CudaSimErrors, CopyOutsideOfSharedMemory) {
  expect_kernel_error(Wrong::kCopyToGlobal, "cp.async destination is not in the block's shared");
}
TEST(CudaSimErrors, LdmatrixOfGlobalMemory) {
  expect_kernel_error(Wrong::kLdmatrixOfGlobal, "ldmatrix row is not in the block's shared");
}

// A copy that may arrive over what the kernel writes: waited for too late, or never.
__global__ void overwritten_copy_kernel(bool wait, const bf16* global, float* y) {
  GPU_SHARED(tile, float[32][4]);
  gpu::cp_async16(tile[threadIdx.x], global);
  gpu::cp_async_commit();
  __syncwarp();
  tile[31 - threadIdx.x][2] = 1;
  __syncwarp();
  if (wait) gpu::cp_async_wait<0>();
  y[threadIdx.x] = tile[threadIdx.x][2];
}

TEST(CudaSimErrors, DestinationOfACopyUnderWayIsWritten) {
  alignas(16) const bf16 global[8] = {};
  std::vector<float> y(32);
  testing::for_schedules([&] {
    if (sim::options().cp_async != sim::CpAsync::kLate) return;
    for (const bool wait : {false, true}) {
      const std::string message = error_of(
          [&] { gpu::launch(overwritten_copy_kernel, 1, 32, 0, nullptr, wait, global, y.data()); });
      EXPECT_NE(message.find("cp.async: its destination was written"), message.npos) << message;
    }
  });
}

TEST(CudaSimErrors, LaunchesThatAGpuRefuses) {
  std::vector<int> out(1);
  const auto launch = [&](dim3 grid, dim3 block, std::size_t smem) {
    return [=, p = out.data()] { gpu::launch(mark_kernel, grid, block, smem, nullptr, p); };
  };
  expect_error(launch(1, 1025, 0), {"launch refused: a block of 1025 threads", kFile});
  expect_error(launch(1, dim3(1, 1, 65), 0), {"launch refused: a block"});
  expect_error(launch(dim3(1, 65536), 1, 0), {"launch refused: a grid"});
  expect_error(launch(1, 1, 163 * 1024 + 1), {"launch refused: 166913 bytes of shared memory"});
}

__global__ void early_exit_kernel(int* out) {
  if (threadIdx.x % 32 >= 20) return;
  __syncthreads();
  out[threadIdx.x] = static_cast<int>(__ballot_sync(kAll, 1));
}

TEST(CudaSimErrors, EarlyExitCanBeAllowed) {
  testing::for_schedules([] {
    sim::options().allow_early_exit = true;
    std::vector<int> out(64);
    gpu::launch(early_exit_kernel, 1, 64, 0, nullptr, out.data());
    sim::options().allow_early_exit = false;
    for (int i = 0; i < 64; ++i)
      EXPECT_EQ(out[static_cast<std::size_t>(i)], i % 32 < 20 ? 0xFFFFF : 0);
  });
}

}  // namespace
}  // namespace onpa
