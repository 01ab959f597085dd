// Energy of a GPU, with a library that stands in for the driver's.
#include "apps/support/gpu_energy.h"

#include <gtest/gtest.h>

namespace onpa::apps {
namespace {

TEST(GpuEnergy, GrowsByWhatTheDriverCounts) {
  const GpuEnergy energy("0000:0a:00.0", ONPA_FAKE_NVML);
  const std::optional<double> before = energy.joules();
  const std::optional<double> after = energy.joules();
  ASSERT_TRUE(before && after);
  EXPECT_DOUBLE_EQ(*after - *before, 1.5);
}

TEST(GpuEnergy, IsUnknownWithoutTheGpuOrTheLibrary) {
  EXPECT_FALSE(GpuEnergy("0000:0b:00.0", ONPA_FAKE_NVML).joules());
  EXPECT_FALSE(GpuEnergy("0000:0a:00.0", "libno-such-library.so.1").joules());
}

}  // namespace
}  // namespace onpa::apps
