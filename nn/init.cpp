#include "nn/init.h"

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"

namespace onpa::nn {

void fill_trunc_normal(const Tensor& x, double std, double bound, std::uint64_t seed,
                       std::uint64_t index) {
  ONPA_CHECK(std > 0 && bound > 0, "fill_trunc_normal: std ", std, " and bound ", bound,
             ", want both positive");
  Philox rng({.seed = seed, .stream = kStreamInit, .sample = index});
  for (float& value : x.span<float>()) {
    double draw = std * rng.normal();
    while (std::abs(draw) > bound) draw = std * rng.normal();
    value = static_cast<float>(draw);
  }
}

void fill_uniform(const Tensor& x, double bound, std::uint64_t seed, std::uint64_t index) {
  Philox rng({.seed = seed, .stream = kStreamInit, .sample = index});
  for (float& value : x.span<float>()) {
    value = static_cast<float>(bound * (2 * rng.uniform() - 1));
  }
}

void fill_constant(const Tensor& x, float value) {
  std::ranges::fill(x.span<float>(), value);
}

}  // namespace onpa::nn
