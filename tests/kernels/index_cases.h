// Cases of the tests of leading tokens on every device.
#pragma once

#include <cstdint>

namespace onpa::kernels {

struct LeadingCase {
  std::int64_t batch, tokens, cols, count;
};
inline constexpr LeadingCase kLeadingCases[] = {{1, 1, 1, 1},  {3, 5, 7, 1},    {3, 5, 7, 2},
                                                {3, 5, 17, 5}, {5, 200, 33, 2}, {0, 4, 5, 2},
                                                {2, 3, 264, 2}};

}  // namespace onpa::kernels
