// Cases and references of the activation and dropout tests on every device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/activation.h"

namespace onpa::kernels {

// One element, below a vector, a vector with an odd tail, several ranges or blocks.
inline constexpr std::int64_t kActivationCounts[] = {0, 1, 7, 37, 50021};

/// Values from -10 to 10, with both zeros.
template <class T>
std::vector<T> activation_inputs(std::int64_t n) {
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = 20.0 * static_cast<double>(i) / static_cast<double>(n) - 10;
    out[static_cast<std::size_t>(i)] = static_cast<T>(static_cast<float>(value));
  }
  if (n > 2) {
    out[1] = static_cast<T>(0.0f);
    out[2] = static_cast<T>(-0.0f);
  }
  return out;
}

/// The activation and its slope; `r` rounds whatever a program would store on its way.
template <class Round>
double normal_cdf(double x, Round r) {
  return r(0.5 * r(std::erfc(r(-x * std::sqrt(0.5)))));
}
template <class Round>
double activation_value(Activation activation, double x, Round r) {
  if (activation == Activation::kNone) return x;
  if (activation == Activation::kRelu) return x > 0 ? x : 0;
  return r(x * normal_cdf(x, r));
}
template <class Round>
double activation_slope(Activation activation, double x, Round r) {
  if (activation == Activation::kNone) return 1;
  if (activation == Activation::kRelu) return x > 0 ? 1 : 0;
  const double pdf = r(r(std::exp(r(-0.5 * r(x * x)))) / std::sqrt(2 * M_PI));
  return r(normal_cdf(x, r) + r(x * pdf));
}

struct DropoutCase {
  std::int64_t rows, cols;
};
inline constexpr DropoutCase kDropoutCases[] = {{1, 1}, {3, 11}, {5, 64}, {0, 8}, {3, 1037}};
inline constexpr RngKey kDropoutKey{.seed = 4, .stream = kStreamDropout, .step = 9, .sample = 100};

/// Whether element (row, column) is kept, as the contract says.
inline bool dropout_keeps(RngKey key, std::int64_t row, std::int64_t column, float p) {
  key.sample += static_cast<std::uint64_t>(row);
  std::uint32_t words[4];
  philox_block(key, static_cast<std::uint64_t>(column / 4), words);
  return uniform_from_bits(words[column % 4]) >= p;
}

}  // namespace onpa::kernels
