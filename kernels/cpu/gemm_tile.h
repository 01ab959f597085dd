// The part of a matrix product's result that one thread works out.
#pragma once

#include <cstdint>

namespace onpa::kernels {

struct GemmTile {
  std::int64_t row, rows, col, cols;
};

}  // namespace onpa::kernels
