#include "nn/init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"

namespace onpa::nn {
namespace {

struct Moments {
  double mean = 0, std = 0, lowest = INFINITY, highest = -INFINITY;
};
Moments moments_of(const Tensor& x) {
  Moments m;
  for (const float v : x.span<float>()) {
    m.mean += v;
    m.std += static_cast<double>(v) * v;
    m.lowest = std::min<double>(m.lowest, v);
    m.highest = std::max<double>(m.highest, v);
  }
  const double n = static_cast<double>(x.numel());
  m.mean /= n;
  m.std = std::sqrt(m.std / n - m.mean * m.mean);
  return m;
}

// Bounds on means and deviations are five standard errors of 200,000 draws.
constexpr std::int64_t kDraws = 200000;

TEST(Init, TruncNormalWithinWideBoundsIsNormal) {
  const Tensor x = Tensor::empty({kDraws});
  fill_trunc_normal(x, 0.02, 2.0, 3, 0);
  const Moments m = moments_of(x);
  EXPECT_NEAR(m.mean, 0, 5 * 0.02 / std::sqrt(kDraws));
  EXPECT_NEAR(m.std, 0.02, 5 * 0.02 / std::sqrt(2.0 * kDraws));
  EXPECT_GT(m.highest, 0.07);
  EXPECT_LT(m.lowest, -0.07);
}

TEST(Init, TruncNormalKeepsTightBounds) {
  const Tensor x = Tensor::empty({kDraws});
  fill_trunc_normal(x, 1.0, 1.0, 3, 0);
  const Moments m = moments_of(x);
  EXPECT_LE(m.highest, 1);
  EXPECT_GE(m.lowest, -1);
  EXPECT_GT(m.highest, 0.999);
  // Standard deviation of a normal cut at one deviation: sqrt(1 - 2 phi(1) / (2 Phi(1) - 1)).
  EXPECT_NEAR(m.std, 0.53956, 0.005);
}

TEST(Init, UniformFillsItsRange) {
  const Tensor x = Tensor::empty({kDraws});
  fill_uniform(x, 0.0625, 5, 1);
  const Moments m = moments_of(x);
  EXPECT_GE(m.lowest, -0.0625);
  EXPECT_LE(m.highest, 0.0625);
  EXPECT_LT(m.lowest, -0.0624);
  EXPECT_GT(m.highest, 0.0624);
  EXPECT_NEAR(m.mean, 0, 5 * 0.0625 / std::sqrt(3.0 * kDraws));
  EXPECT_NEAR(m.std, 0.0625 / std::sqrt(3.0), 2e-4);
}

TEST(Init, DrawsBelongToSeedAndIndex) {
  const auto draw = [](std::uint64_t seed, std::uint64_t index) {
    const Tensor x = Tensor::empty({17});
    fill_trunc_normal(x, 1, 2, seed, index);
    return x.to_vector<float>();
  };
  EXPECT_EQ(draw(1, 2), draw(1, 2));
  EXPECT_NE(draw(1, 2), draw(1, 3));
  EXPECT_NE(draw(1, 2), draw(2, 2));
}

TEST(Init, DrawsDependOnNoNumberOfThreads) {
  const int threads = kernels::thread_count();
  std::vector<float> one, many;
  for (const int count : {1, 3}) {
    kernels::set_thread_count(count);
    const Tensor x = Tensor::empty({100003});
    fill_trunc_normal(x, 1, 2, 1, 2);
    (count == 1 ? one : many) = x.to_vector<float>();
  }
  kernels::set_thread_count(threads);
  EXPECT_EQ(one, many);
}

TEST(Init, ConstantAndEmpty) {
  const Tensor x = Tensor::empty({3});
  fill_constant(x, 1.5f);
  EXPECT_EQ(x.to_vector<float>(), std::vector<float>(3, 1.5f));
  fill_uniform(Tensor::empty({0}), 1, 1, 1);
  EXPECT_THROW(fill_trunc_normal(x, 0, 1, 1, 1), Error);
}

}  // namespace
}  // namespace onpa::nn
