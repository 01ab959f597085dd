#include "kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "tests/kernels/convert_cases.h"

namespace onpa::kernels {
namespace {

TEST(ConvertKernel, FillAndConvert) {
  for (const std::int64_t n : kConvertCounts) {
    const std::vector<float> x = convert_inputs(n);
    std::vector<double> wide(x.size());
    std::vector<float> back(x.size()), filled(x.size());
    convert<float, double>(Cpu{}, {x.data(), wide.data(), n});
    convert<double, float>(Cpu{}, {wide.data(), back.data(), n});
    fill<float>(Cpu{}, {filled.data(), 1.7f, n});
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(filled[i], 1.7f);
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(wide[i]) && std::isnan(back[i]));
        continue;
      }
      ASSERT_EQ(wide[i], static_cast<double>(x[i]));
      ASSERT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(x[i]));
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
