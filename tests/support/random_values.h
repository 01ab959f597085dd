// Repeatable inputs for kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/philox.h"

namespace onpa::testing {

/// `n` draws from the normal distribution with that mean and deviation. All are floats, whatever T
/// is, so that a kernel in float and its reference in double read the same values.
template <class T>
std::vector<T> normal_values(std::int64_t n, std::uint64_t seed, double deviation = 1,
                             double mean = 0) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  std::vector<T> out(static_cast<std::size_t>(n));
  for (T& v : out) v = static_cast<T>(static_cast<float>(mean + deviation * rng.normal()));
  return out;
}

}  // namespace onpa::testing
