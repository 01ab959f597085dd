// Layer norm under ThreadSanitizer: a barrier too few is a race, whatever the schedule.
#include <gtest/gtest.h>

#include "kernels/norm.h"
#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;

// Rows for every warp of a block, two for some.
template <class T>
void backward(std::int64_t cols) {
  constexpr std::int64_t kRows = 12;
  const DeviceArray<T> values(std::vector<T>(static_cast<std::size_t>(kRows * cols), T(0.5f)));
  const DeviceArray<float> statistics(std::vector<float>(kRows, 0.25f));
  const DeviceArray<T> dx(kRows * cols), dweight(cols), dbias(cols);
  LayerNormBwd<T> args{.dy = values.data(),
                       .x = values.data(),
                       .weight = values.data(),
                       .mean = statistics.data(),
                       .rstd = statistics.data(),
                       .dx = dx.data(),
                       .dx_mode = GradMode::kAssign,
                       .dweight = dweight.data(),
                       .dbias = dbias.data(),
                       .dweight_mode = GradMode::kAssign,
                       .dbias_mode = GradMode::kAssign,
                       .rows = kRows,
                       .cols = cols};
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(layer_norm_bwd_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  layer_norm_bwd(Cuda{}, args);
  EXPECT_EQ(static_cast<float>(dbias.to_host()[0]), 0.5f * kRows);
}

TEST(RaceLayerNorm, RowsInRegisters) {
  backward<float>(24);
  backward<bf16>(24);
}

TEST(RaceLayerNorm, AnyWidth) {
  backward<float>(17);
}

}  // namespace
}  // namespace onpa::kernels
