// Cases of the elementwise tests on every device.
#pragma once

#include <cstdint>

namespace onpa::kernels {

// Nothing, one element, primes, below a warp, over several ranges or blocks with an odd tail.
inline constexpr std::int64_t kElementCounts[] = {0, 1, 7, 31, 1000, 70001};

// Rows of several chunks; widths below a vector and a warp, and over the columns of a block.
struct ColumnCase {
  std::int64_t rows, cols;
};
inline constexpr ColumnCase kColumnCases[] = {{0, 3},   {1, 1},    {7, 13},  {257, 5},
                                              {33, 40}, {70, 264}, {300, 8}, {1434, 101}};

}  // namespace onpa::kernels
