// ThreadSanitizer reports missing barriers, fences and atomics whatever the schedule, and nothing
// on right kernels.
#include <gtest/gtest.h>

#include "tests/cuda_sim/planted.h"
#include "tests/cuda_sim/races.h"

namespace onpa::planted {
namespace {

using sim::races;

// In order, which alone finds few of these, and by priority.
template <class Run>
void expect_races(Run run, bool some) {
  const sim::Options before = sim::options();
  for (const auto policy : {sim::Policy::kInOrder, sim::Policy::kPriority}) {
    sim::options().policy = policy;
    const int count = races([&] { (void)run(); });
    if (some) {
      EXPECT_GT(count, 0) << sim::schedule_name();
    } else {
      EXPECT_EQ(count, 0) << sim::schedule_name();
    }
  }
  sim::options() = before;
}

TEST(CudaSimRace, NoneInRightKernels) {
  expect_races(normalize_is_right<Bug::kNone>, false);
  expect_races(product_is_right<Bug::kNone>, false);
  expect_races(transpose_is_right<Bug::kNone>, false);
  expect_races(last_block_is_right<Bug::kNone>, false);
}

TEST(CudaSimRace, MissingBarriers) {
  expect_races(normalize_is_right<Bug::kNoBarrierBeforeRead>, true);
  expect_races(normalize_is_right<Bug::kNoBarrierBeforeReuse>, true);
  expect_races(product_is_right<Bug::kNoBarrierBeforeRead>, true);
  expect_races(product_is_right<Bug::kNoBarrierBeforeReuse>, true);
}

TEST(CudaSimRace, MissingWarpBarrier) {
  expect_races(transpose_is_right<Bug::kNoBarrierBeforeRead>, true);
  expect_races(transpose_is_right<Bug::kShuffleAsBarrier>, true);
}

TEST(CudaSimRace, MissingFence) {
  expect_races(last_block_is_right<Bug::kNoFence>, true);
}

__global__ void one_word_kernel(int* word, bool atomic) {
  if (threadIdx.x > 0) return;
  if (atomic) {
    atomicExch(word, 3);
  } else {
    *word = 3;
  }
}

TEST(CudaSimRace, TwoBlocksWriteOneWord) {
  const auto run = [](unsigned blocks, bool atomic) {
    int word = 0;
    gpu::launch(one_word_kernel, blocks, 32, 0, nullptr, &word, atomic);
  };
  expect_races([&] { run(2, false); }, true);
  expect_races([&] { run(1, false); }, false);
  expect_races([&] { run(2, true); }, false);
}

__global__ void same_value_kernel(int* y) {
  GPU_SHARED(word, int);
  word = 5;
  __syncthreads();
  y[threadIdx.x] = word;
}

TEST(CudaSimRace, ThreadsWriteTheSameValue) {
  int y[64];
  expect_races([&] { gpu::launch(same_value_kernel, 1, 64, 0, nullptr, y); }, true);
}

TEST(CudaSimRace, IsAnErrorWhereNobodyCounts) {
  EXPECT_THROW(transpose_is_right<Bug::kNoBarrierBeforeRead>(), sim::Error);
  EXPECT_TRUE(transpose_is_right<Bug::kNone>());
}

TEST(CudaSimRace, LaunchesFollowEachOther) {
  std::vector<float> x(128), y(128), z(128);
  expect_races(
      [&] {
        gpu::launch(normalize_kernel<Bug::kNone>, 1, kThreads, 0, nullptr, y.data(), x.data(), 128);
        gpu::launch(normalize_kernel<Bug::kNone>, 1, kThreads, 0, nullptr, z.data(), y.data(), 128);
      },
      false);
}

}  // namespace
}  // namespace onpa::planted
