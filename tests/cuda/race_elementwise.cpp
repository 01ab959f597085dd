// Sums under ThreadSanitizer: a barrier too few is a race, whatever the schedule.
#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;

template <class T>
void column_sum_of_ones(std::int64_t cols) {
  constexpr std::int64_t kRows = 12;
  const DeviceArray<T> x(std::vector<T>(static_cast<std::size_t>(kRows * cols), T(1.0f))), y(cols);
  ColumnSum<T> args{x.data(), cols, y.data(), GradMode::kAssign, kRows, cols};
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(column_sum_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  column_sum(Cuda{}, args);
  for (const T v : y.to_host()) EXPECT_EQ(static_cast<float>(v), kRows);
}

TEST(RaceElementwise, Columns) {
  column_sum_of_ones<float>(24);
  column_sum_of_ones<bf16>(24);
  column_sum_of_ones<float>(17);
}

TEST(RaceElementwise, Everything) {
  constexpr std::int64_t kCount = 5000;
  const DeviceArray<float> x(std::vector<float>(kCount, 1.0f)), y(1);
  Sum<float> args{x.data(), y.data(), 1, kCount};
  const DeviceArray<char> workspace(static_cast<std::int64_t>(sum_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  sum(Cuda{}, args);
  EXPECT_EQ(y.to_host()[0], kCount);
}

}  // namespace
}  // namespace onpa::kernels
