// What the parts of the CPU's matrix product share whatever the vector width.
#pragma once

#include <cstdint>

namespace onpa::kernels {

// Blocks start at multiples of these, which every target's register tile divides.
constexpr std::int64_t kRowUnit = 12, kColUnit = 32;

struct GemmBlock {
  std::int64_t row, rows, col, cols;  // part of c
  std::int64_t k, depth;              // depths that are added to it
  std::int64_t depth_step;            // depths that are summed in registers
};

}  // namespace onpa::kernels
