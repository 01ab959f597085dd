#include "kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/cuda/device_memory.h"
#include "tests/kernels/convert_cases.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;

std::uint32_t bits_of(float v) {
  return std::bit_cast<std::uint32_t>(v);
}

TEST(CudaConvert, FillWritesEveryElement) {
  for (const std::int64_t n : kConvertCounts) {
    for (const int offset : {0, 1}) {
      const DeviceArray<float> wide(n, offset);
      const DeviceArray<bf16> narrow(n, offset);
      fill<float>(Cuda{}, {wide.data(), 1.7f, n});
      fill<bf16>(Cuda{}, {narrow.data(), 1.7f, n});
      for (const float v : wide.to_host()) ASSERT_EQ(v, 1.7f);
      for (const bf16 v : narrow.to_host()) ASSERT_EQ(v.bits, bf16(1.7f).bits);
    }
  }
}

TEST(CudaConvert, HostRoundsTiesToEven) {
  EXPECT_EQ(static_cast<float>(bf16(0x1.01p0f)), 1.0f);
  EXPECT_EQ(static_cast<float>(bf16(0x1.03p0f)), 0x1.04p0f);
  EXPECT_EQ(static_cast<float>(bf16(0x1.010002p0f)), 0x1.02p0f);
  EXPECT_EQ(static_cast<float>(bf16(std::numeric_limits<float>::max())), INFINITY);
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(NAN))));
}

// To bf16 as the host rounds, and back without loss; a NaN stays one.
TEST(CudaConvert, RoundsToNearestEvenAndBack) {
  for (const std::int64_t n : kConvertCounts) {
    const std::vector<float> x = convert_inputs(n);
    for (const int offset : {0, 1}) {
      const DeviceArray<float> in(x, offset), back(n, offset), same(n, offset);
      const DeviceArray<bf16> rounded(n, offset), again(n, offset);
      convert<float, bf16>(Cuda{}, {in.data(), rounded.data(), n});
      convert<bf16, float>(Cuda{}, {rounded.data(), back.data(), n});
      convert<float, float>(Cuda{}, {in.data(), same.data(), n});
      convert<bf16, bf16>(Cuda{}, {rounded.data(), again.data(), n});
      const std::vector<bf16> got = rounded.to_host(), got_again = again.to_host();
      const std::vector<float> got_back = back.to_host(), got_same = same.to_host();
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (std::isnan(x[i])) {
          EXPECT_TRUE(std::isnan(got_back[i]) && std::isnan(got_same[i]));
          continue;
        }
        ASSERT_EQ(got[i].bits, bf16(x[i]).bits) << x[i];
        ASSERT_EQ(got_again[i].bits, got[i].bits) << x[i];
        ASSERT_EQ(bits_of(got_back[i]), std::uint32_t{got[i].bits} << 16) << x[i];
        ASSERT_EQ(bits_of(got_same[i]), bits_of(x[i])) << x[i];
      }
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
