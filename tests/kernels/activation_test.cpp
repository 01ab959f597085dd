#include "kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

// One element, below a vector, a vector with an odd tail, several ranges of the pool.
const std::int64_t kSizes[] = {0, 1, 7, 37, 50021};

// Values from -10 to 10, with both zeros.
template <class T>
std::vector<T> values(std::int64_t n) {
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    out[static_cast<std::size_t>(i)] =
        static_cast<float>(20.0 * i / std::max<std::int64_t>(1, n)) - 10;
  }
  if (n > 2) {
    out[1] = T{0};
    out[2] = -T{0};
  }
  return out;
}

double cdf(double x) {
  return 0.5 * std::erfc(-x * std::sqrt(0.5));
}
double gelu_slope(double x) {
  return cdf(x) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
}

template <class T>
std::vector<T> forward(const std::vector<T>& x, Activation activation) {
  std::vector<T> y(x.size() + 1, T{77});
  activation_fwd<T>(Cpu{}, {.x = x.data(),
                            .y = y.data(),
                            .n = static_cast<std::int64_t>(x.size()),
                            .activation = activation});
  EXPECT_EQ(y.back(), T{77}) << "wrote past the end";
  y.pop_back();
  return y;
}

template <class T>
std::vector<T> backward(const std::vector<T>& dy, const std::vector<T>& x, Activation activation,
                        GradMode mode) {
  std::vector<T> dx(x.size() + 1, T{2});
  activation_bwd<T>(Cpu{}, {.dy = dy.data(),
                            .x = x.data(),
                            .dx = dx.data(),
                            .mode = mode,
                            .n = static_cast<std::int64_t>(x.size()),
                            .activation = activation});
  EXPECT_EQ(dx.back(), T{2}) << "wrote past the end";
  dx.pop_back();
  return dx;
}

TEST(ActivationKernel, GeluAgreesWithErf) {
  for (const std::int64_t n : kSizes) {
    const std::vector<float> x = values<float>(n), y = forward(x, Activation::kGelu);
    for (std::size_t i = 0; i < x.size(); ++i) {
      // 1.5e-7 of Phi times x, and the rounding of the product.
      ASSERT_NEAR(y[i], x[i] * cdf(x[i]), 2.2e-7 * std::abs(x[i]) + 1e-30) << x[i];
    }
    const std::vector<double> xd = values<double>(n), yd = forward(xd, Activation::kGelu);
    for (std::size_t i = 0; i < xd.size(); ++i) ASSERT_DOUBLE_EQ(yd[i], xd[i] * cdf(xd[i]));
  }
}

TEST(ActivationKernel, GeluSlope) {
  for (const std::int64_t n : kSizes) {
    const std::vector<float> x = values<float>(n), dy(x.size(), 3.0f);
    const std::vector<float> assigned = backward(dy, x, Activation::kGelu, GradMode::kAssign);
    const std::vector<float> added = backward(dy, x, Activation::kGelu, GradMode::kAccumulate);
    for (std::size_t i = 0; i < x.size(); ++i) {
      // Phi and x phi, each within a few 1e-7, times dy.
      ASSERT_NEAR(assigned[i], 3 * gelu_slope(x[i]), 1.5e-6) << x[i];
      ASSERT_FLOAT_EQ(added[i], 2 + assigned[i]);
    }
  }
}

template <class T>
void check_relu() {
  for (const std::int64_t n : kSizes) {
    const std::vector<T> x = values<T>(n), y = forward(x, Activation::kRelu);
    const std::vector<T> dy(x.size(), T{3});
    const std::vector<T> assigned = backward(dy, x, Activation::kRelu, GradMode::kAssign);
    const std::vector<T> added = backward(dy, x, Activation::kRelu, GradMode::kAccumulate);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i], x[i] > 0 ? x[i] : 0);
      ASSERT_EQ(assigned[i], x[i] > 0 ? 3 : 0) << "the slope at 0 is 0";
      ASSERT_EQ(added[i], 2 + assigned[i]);
    }
  }
}

TEST(ActivationKernel, Relu) {
  check_relu<float>();
  check_relu<double>();
}

TEST(ActivationKernel, NanAndInfinityPass) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = INFINITY;
  for (const Activation activation : {Activation::kRelu, Activation::kGelu}) {
    const std::vector<float> y = forward<float>({nan, inf, 1, 2, 3, 4, 5, 6, nan}, activation);
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[8]));
    EXPECT_EQ(y[1], inf);
  }
}

TEST(ActivationKernel, SameBitsForAnyNumberOfThreads) {
  const std::vector<float> x = values<float>(100003), dy = values<float>(100003);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    results.push_back(
        backward(dy, forward(x, Activation::kGelu), Activation::kGelu, GradMode::kAssign));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(DropoutKernel, MaskIsTheDocumentedOne) {
  const std::int64_t rows = 3, cols = 11;
  const RngKey key{.seed = 4, .stream = kStreamDropout, .step = 9, .sample = 100};
  std::vector<double> x(static_cast<std::size_t>(rows * cols)), y(x.size(), 1.0);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) + 1;
  dropout<double>(Cpu{}, {.x = x.data(),
                          .y = y.data(),
                          .mode = GradMode::kAccumulate,
                          .rows = rows,
                          .cols = cols,
                          .p = 0.5f,
                          .key = key});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < cols; ++i) {
      RngKey row = key;
      row.sample += static_cast<std::uint64_t>(r);
      std::uint32_t words[4];
      philox_block(row, static_cast<std::uint64_t>(i / 4), words);
      const bool kept = uniform_from_bits(words[i % 4]) >= 0.5f;
      const std::size_t at = static_cast<std::size_t>(r * cols + i);
      EXPECT_EQ(y[at], kept ? 1 + 2 * x[at] : 1.0);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
