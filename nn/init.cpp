#include "nn/init.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"

namespace onpa::nn {
namespace {

// Values of one parameter that share a random sequence; part of what a seed means.
constexpr std::int64_t kBlockValues = 1 << 14;

// Fills `x` block by block; block b draws under step b.
void fill_blocks(const Tensor& x, std::uint64_t seed, std::uint64_t index,
                 const std::function<float(Philox&)>& draw) {
  float* const values = x.data<float>();
  kernels::parallel_for(x.numel(), kBlockValues, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t block = i / kBlockValues;
      Philox rng({.seed = seed,
                  .stream = kStreamInit,
                  .step = static_cast<std::uint64_t>(block),
                  .sample = index});
      const std::int64_t stop = std::min(end, (block + 1) * kBlockValues);
      for (; i < stop; ++i) values[i] = draw(rng);
    }
  });
}

}  // namespace

void fill_trunc_normal(const Tensor& x, double std, double bound, std::uint64_t seed,
                       std::uint64_t index) {
  ONPA_CHECK(std > 0 && bound > 0, "fill_trunc_normal: std ", std, " and bound ", bound,
             ", want both positive");
  fill_blocks(x, seed, index, [&](Philox& rng) {
    double value = std * rng.normal();
    while (std::abs(value) > bound) value = std * rng.normal();
    return static_cast<float>(value);
  });
}

void fill_uniform(const Tensor& x, double bound, std::uint64_t seed, std::uint64_t index) {
  fill_blocks(x, seed, index,
              [&](Philox& rng) { return static_cast<float>(bound * (2 * rng.uniform() - 1)); });
}

void fill_constant(const Tensor& x, float value) {
  std::ranges::fill(x.span<float>(), value);
}

}  // namespace onpa::nn
