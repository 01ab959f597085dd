#include "kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/activation_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

double cdf(double x) {
  return normal_cdf(x, testing::Exact{});
}
double gelu_slope(double x) {
  return activation_slope(Activation::kGelu, x, testing::Exact{});
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
  for (const std::int64_t n : kActivationCounts) {
    const std::vector<float> x = activation_inputs<float>(n), y = forward(x, Activation::kGelu);
    for (std::size_t i = 0; i < x.size(); ++i) {
      // The fit's and its roundings' error of Phi, times x.
      ASSERT_NEAR(y[i], x[i] * cdf(x[i]), 2.2e-7 * std::abs(x[i]) + 1e-30) << x[i];
    }
    const std::vector<double> xd = activation_inputs<double>(n),
                              yd = forward(xd, Activation::kGelu);
    for (std::size_t i = 0; i < xd.size(); ++i) ASSERT_DOUBLE_EQ(yd[i], xd[i] * cdf(xd[i]));
  }
}

TEST(ActivationKernel, GeluSlope) {
  for (const std::int64_t n : kActivationCounts) {
    const std::vector<float> x = activation_inputs<float>(n), dy(x.size(), 3.0f);
    const std::vector<float> assigned = backward(dy, x, Activation::kGelu, GradMode::kAssign);
    const std::vector<float> added = backward(dy, x, Activation::kGelu, GradMode::kAccumulate);
    for (std::size_t i = 0; i < x.size(); ++i) {
      // 2e-7 of the slope, times dy, and the rounding of the product.
      ASSERT_NEAR(assigned[i], 3 * gelu_slope(x[i]), 9e-7) << x[i];
      ASSERT_FLOAT_EQ(added[i], 2 + assigned[i]);
    }
  }
}

template <class T>
void check_relu() {
  for (const std::int64_t n : kActivationCounts) {
    const std::vector<T> x = activation_inputs<T>(n), y = forward(x, Activation::kRelu);
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
  const std::vector<float> dx =
      backward<float>({1, 1, 1}, {nan, inf, -inf}, Activation::kGelu, GradMode::kAssign);
  EXPECT_TRUE(std::isnan(dx[0]));
  EXPECT_EQ(dx[1], 1.0f);
  EXPECT_EQ(dx[2], 0.0f);
}

TEST(ActivationKernel, SameBitsForAnyNumberOfThreads) {
  const std::vector<float> x = activation_inputs<float>(100003),
                           dy = activation_inputs<float>(100003);
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
  for (const auto& [rows, cols] : kDropoutCases) {
    // The step comes from the state where there is one.
    RngKey other = kDropoutKey;
    other.step = 1;
    const StepState state{.step = kDropoutKey.step};
    std::vector<double> x(static_cast<std::size_t>(rows * cols)), y(x.size(), 1.0);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) + 1;
    std::vector<double> again = y;
    Dropout<double> args{.x = x.data(),
                         .y = y.data(),
                         .mode = GradMode::kAccumulate,
                         .rows = rows,
                         .cols = cols,
                         .p = 0.5f,
                         .key = kDropoutKey};
    dropout(Cpu{}, args);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const bool kept = dropout_keeps(kDropoutKey, i / cols, i % cols, 0.5f);
      EXPECT_EQ(y[i], kept ? 1 + 2 * x[i] : 1.0);
    }
    args.y = again.data();
    args.key = other;
    args.state = &state;
    dropout(Cpu{}, args);
    EXPECT_EQ(again, y);
  }
}

}  // namespace
}  // namespace onpa::kernels
