// Missing synchronization gives wrong results under the policies that are said to find it.
#include <gtest/gtest.h>

#include "tests/cuda/schedules.h"
#include "tests/cuda_sim/planted.h"

namespace onpa::planted {
namespace {

using sim::CpAsync;
using sim::Policy;

constexpr int kSeeds = 40;

// Of kSeeds runs, those whose result is wrong.
template <class Run>
int found(Policy policy, CpAsync cp_async, Run is_right) {
  const sim::Options before = sim::options();
  int wrong = 0;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    sim::options() = before;
    sim::options().policy = policy;
    sim::options().cp_async = cp_async;
    sim::options().seed = static_cast<std::uint64_t>(seed);
    wrong += !is_right();
  }
  sim::options() = before;
  return wrong;
}

struct Found {
  int in_order, reverse, uniform, priority;
};
template <class Run>
Found found_by(Run is_right) {
  return {found(Policy::kInOrder, CpAsync::kLate, is_right),
          found(Policy::kReverse, CpAsync::kLate, is_right),
          found(Policy::kUniform, CpAsync::kLate, is_right),
          found(Policy::kPriority, CpAsync::kLate, is_right)};
}

void expect_always(const Found& f) {
  EXPECT_EQ(f.in_order, kSeeds);
  EXPECT_EQ(f.reverse, kSeeds);
  EXPECT_EQ(f.uniform, kSeeds);
  EXPECT_EQ(f.priority, kSeeds);
}

TEST(CudaSimSchedules, RightKernelsAreRightUnderAll) {
  const auto is_right = [] {
    return normalize_is_right<Bug::kNone>() && product_is_right<Bug::kNone>() &&
           transpose_is_right<Bug::kNone>() && last_block_is_right<Bug::kNone>();
  };
  testing::for_schedules([&] { EXPECT_TRUE(is_right()); });
  const Found f = found_by(is_right);
  EXPECT_EQ(f.in_order + f.reverse + f.uniform + f.priority, 0);
  EXPECT_EQ(found(Policy::kUniform, CpAsync::kRandom, is_right), 0);
  EXPECT_EQ(found(Policy::kPriority, CpAsync::kEarly, is_right), 0);
}

TEST(CudaSimSchedules, ReadBeforeBarrier) {
  expect_always(found_by(normalize_is_right<Bug::kNoBarrierBeforeRead>));
}

TEST(CudaSimSchedules, ReuseBeforeBarrierNeedsAWarpThatRunsAhead) {
  EXPECT_EQ(found_by(normalize_is_right<Bug::kNoBarrierBeforeReuse>).priority, kSeeds);
}

TEST(CudaSimSchedules, CopiesReadBeforeBarrier) {
  expect_always(found_by(product_is_right<Bug::kNoBarrierBeforeRead>));
}

TEST(CudaSimSchedules, CopiesOverTilesStillRead) {
  const Found f = found_by(product_is_right<Bug::kNoBarrierBeforeReuse>);
  EXPECT_GE(f.uniform, kSeeds * 3 / 4);
  EXPECT_EQ(f.priority, kSeeds);
}

TEST(CudaSimSchedules, CopyThatIsNotWaitedForIsFoundWhenItIsLate) {
  expect_always(found_by(product_is_right<Bug::kNoWaitForLastCopy>));
  EXPECT_EQ(found(Policy::kPriority, CpAsync::kRandom, product_is_right<Bug::kNoWaitForLastCopy>),
            kSeeds);
}

TEST(CudaSimSchedules, ReadBeforeWarpBarrier) {
  expect_always(found_by(transpose_is_right<Bug::kNoBarrierBeforeRead>));
}

__global__ void unwritten_kernel(float* y) {
  GPU_SHARED(row, float[33]);
  GPU_DYN_SHARED(memory);
  const float* more = gpu::Carver{memory}.take<float>(32);
  if (threadIdx.x > 0) row[threadIdx.x] = 0;
  __syncthreads();
  y[threadIdx.x] = threadIdx.x < 16 ? row[threadIdx.x] : more[threadIdx.x];
}

TEST(CudaSimSchedules, SharedMemoryNeverWrittenIsNanInEveryBlock) {
  testing::for_schedules([] {
    for (int block = 0; block < 2; ++block) {
      std::vector<float> y(32);
      gpu::launch(unwritten_kernel, 2, 32, 128, nullptr, y.data());
      EXPECT_TRUE(std::isnan(y[0]));
      EXPECT_EQ(y[1], 0);
      EXPECT_TRUE(std::isnan(y[16]));
    }
  });
}

}  // namespace
}  // namespace onpa::planted
