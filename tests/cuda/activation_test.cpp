#include "kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/kernels/activation_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::Exact;
using testing::RoundedToBf16;
using testing::seen_as;

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kGelu};

// Forward, over the input if `in_place`.
template <class T>
std::vector<T> forward(const std::vector<double>& x, Activation activation, int offset,
                       bool in_place) {
  const DeviceArray<T> in(cast_to<T>(x), offset), out(in.size(), offset);
  const DeviceArray<T>& y = in_place ? in : out;
  activation_fwd<T>(Cuda{},
                    {.x = in.data(), .y = y.data(), .n = in.size(), .activation = activation});
  return y.to_host();
}

// Backward onto 2.
template <class T>
std::vector<T> backward(const std::vector<double>& dy, const std::vector<double>& x,
                        Activation activation, GradMode mode, int offset) {
  const DeviceArray<T> in(cast_to<T>(x), offset), grad(cast_to<T>(dy), offset),
      dx(std::vector<T>(x.size(), static_cast<T>(2.0f)), offset);
  activation_bwd<T>(Cuda{}, {.dy = grad.data(),
                             .x = in.data(),
                             .dx = dx.data(),
                             .mode = mode,
                             .n = in.size(),
                             .activation = activation});
  return dx.to_host();
}

template <class T>
void check(std::int64_t n, Activation activation, int offset) {
  SCOPED_TRACE(::testing::Message() << n << ' ' << name_of(DTypeOf<T>::value) << " activation "
                                    << int(activation) << " offset " << offset);
  const std::vector<double> x = seen_as<T>(activation_inputs<double>(n));
  const std::vector<double> dy(x.size(), 3.0);
  std::vector<double> y, y_naive, dx, dx_naive;
  for (const double v : x) {
    y.push_back(activation_value(activation, v, Exact{}));
    y_naive.push_back(activation_value(activation, v, RoundedToBf16{}));
  }
  // Phi of float is within 1.5e-7, so GELU within that times |x|.
  const double size = testing::largest_of(x);
  testing::expect_near(forward<T>(x, activation, offset, false), y, y_naive, 2.2e-7, 2, size);
  testing::expect_near(forward<T>(x, activation, offset, true), y, y_naive, 2.2e-7, 2, size);
  for (const GradMode mode : {GradMode::kAssign, GradMode::kAccumulate}) {
    const double start = mode == GradMode::kAssign ? 0 : 2;
    dx.clear(), dx_naive.clear();
    for (const double v : x) {
      const RoundedToBf16 r;
      dx.push_back(start + 3 * activation_slope(activation, v, Exact{}));
      dx_naive.push_back(r(start + r(3 * activation_slope(activation, v, r))));
    }
    testing::expect_near(backward<T>(dy, x, activation, mode, offset), dx, dx_naive, 5e-7, 3, 3);
  }
}

TEST(CudaActivation, AgreesWithTheFormulas) {
  for (const Activation activation : kActivations) {
    for (const std::int64_t n : kActivationCounts) {
      for (const int offset : {0, 1}) {
        check<float>(n, activation, offset);
        check<bf16>(n, activation, offset);
      }
    }
  }
}

template <class T>
void check_non_finite() {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = INFINITY;
  const std::vector<double> x = {nan, inf, -inf, 1, 2, 3, 4, 5, 6, 7, nan};
  for (const Activation activation : kActivations) {
    const std::vector<T> y = forward<T>(x, activation, 0, false);
    EXPECT_TRUE(std::isnan(static_cast<float>(y[0])) && std::isnan(static_cast<float>(y[10])));
    EXPECT_EQ(static_cast<float>(y[1]), inf);
  }
  EXPECT_EQ(static_cast<float>(forward<T>(x, Activation::kRelu, 0, false)[2]), 0);
  const std::vector<double> dy(x.size(), 1.0);
  const std::vector<T> dx = backward<T>(dy, x, Activation::kGelu, GradMode::kAssign, 0);
  EXPECT_TRUE(std::isnan(static_cast<float>(dx[0])) && std::isnan(static_cast<float>(dx[10])));
}

TEST(CudaActivation, NanAndInfinityPass) {
  check_non_finite<float>();
  check_non_finite<bf16>();
}

// The same mask as the CPU's, bit by bit, whatever the width of a row.
template <class T>
void check_dropout(const DropoutCase& size, int offset) {
  const auto [rows, cols] = size;
  const float p = 0.25f;
  std::vector<double> x(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i % 100) + 1;
  const DeviceArray<T> in(cast_to<T>(x), offset),
      added(std::vector<T>(x.size(), static_cast<T>(1.0f)), offset);
  Dropout<T> args{.x = in.data(),
                  .y = added.data(),
                  .mode = GradMode::kAccumulate,
                  .rows = rows,
                  .cols = cols,
                  .p = p,
                  .key = kDropoutKey};
  dropout(Cuda{}, args);
  // In place, with the step from the device.
  const DeviceArray<StepState> state(std::vector<StepState>{{.step = kDropoutKey.step}});
  args.y = in.data();
  args.mode = GradMode::kAssign;
  args.key.step = 77;
  args.state = state.data();
  dropout(Cuda{}, args);
  const std::vector<T> assigned = in.to_host(), sums = added.to_host();
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const bool kept = dropout_keeps(kDropoutKey, i / cols, i % cols, p);
    const double want = kept ? x[i] * (1 / 0.75) : 0;
    // One rounding of the scale, one of the product, one when stored as T.
    const double bound = (std::is_same_v<T, bf16> ? 0x1p-8 : 2e-7) * (want + 1);
    ASSERT_NEAR(static_cast<float>(assigned[i]), want, bound) << rows << " x " << cols << ' ' << i;
    ASSERT_NEAR(static_cast<float>(sums[i]), 1 + want, bound) << rows << " x " << cols << ' ' << i;
    ASSERT_EQ(static_cast<float>(assigned[i]) != 0, kept);
  }
}

TEST(CudaDropout, MaskIsTheDocumentedOne) {
  for (const DropoutCase& size : kDropoutCases) {
    for (const int offset : {0, 1}) {
      check_dropout<float>(size, offset);
      check_dropout<bf16>(size, offset);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
