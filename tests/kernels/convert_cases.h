// Cases of the tests of filling and conversion on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace onpa::kernels {

// Nothing, one element, below a warp, over several blocks with an odd tail.
inline constexpr std::int64_t kConvertCounts[] = {0, 1, 7, 31, 6001};

/// Values of every size, halfway cases of bf16 to both sides, and what is not a number.
inline std::vector<float> convert_inputs(std::int64_t n) {
  const float special[] = {0.0f,
                           -0.0f,
                           1.0f,
                           0x1.01p0f,
                           0x1.03p0f,
                           0x1.010002p0f,
                           -0x1.0fffp3f,
                           INFINITY,
                           -INFINITY,
                           std::numeric_limits<float>::max(),
                           std::numeric_limits<float>::denorm_min(),
                           NAN};
  std::vector<float> out;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto count = static_cast<std::int64_t>(std::size(special));
    out.push_back(i < count ? special[i]
                            : std::ldexp(1.0f + static_cast<float>(i % 977) / 977,
                                         static_cast<int>(i % 250) - 125));
  }
  return out;
}

}  // namespace onpa::kernels
