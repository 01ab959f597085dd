#include "kernels/optim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/optim_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::normal_values;

// Points the arguments at a gradient of either type.
template <class Args>
void set_grad(Args& args, const DeviceArray<float>& grad) {
  args.grad = grad.data();
}
template <class Args>
void set_grad(Args& args, const DeviceArray<bf16>& grad) {
  args.grad_bf16 = grad.data();
}

// bf16 weights are the float ones, rounded.
void expect_rounded(const std::vector<bf16>& got, const std::vector<float>& param) {
  for (std::size_t i = 0; i < param.size(); ++i) ASSERT_EQ(got[i].bits, bf16(param[i]).bits);
}

template <class Grad>
void check_adamw(std::int64_t n, int offset) {
  SCOPED_TRACE(::testing::Message()
               << n << ' ' << name_of(DTypeOf<Grad>::value) << " offset " << offset);
  const AdamWCase c;
  const std::vector<float> start = normal_values<float>(n, 1);
  const std::vector<Grad> grads = normal_values<Grad>(n, 2, 0.3);
  const std::vector<float> zeros(start.size());
  const DeviceArray<float> param(start, offset), m(zeros, offset), v(zeros, offset);
  const DeviceArray<Grad> grad(grads, offset);
  const DeviceArray<bf16> weights(n, offset);
  for (std::int64_t step = 1; step <= 3; ++step) {
    // The second step finds its rate and number on the device.
    const DeviceArray<StepState> state(
        std::vector<StepState>{{.optimizer_step = static_cast<std::uint64_t>(step),
                                .lr = c.lr / kLrScale,
                                .clip_norm = 0}});
    const bool given = step != 2;
    AdamW args{.param = param.data(),
               .grad = nullptr,
               .m = m.data(),
               .v = v.data(),
               .n = n,
               .beta1 = c.beta1,
               .beta2 = c.beta2,
               .lr = given ? c.lr / kLrScale : 9,
               .eps = c.eps,
               .weight_decay = c.weight_decay,
               .grad_scale = 0.5f,
               .step = given ? step : 77,
               .state = given ? nullptr : state.data(),
               .param_bf16 = weights.data(),
               .lr_scale = kLrScale};
    set_grad(args, grad);
    adamw(Cuda{}, args);
  }
  const std::vector<float> got = param.to_host(), got_m = m.to_host(), got_v = v.to_host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    AdamWElement want{start[i]};
    for (int step = 1; step <= 3; ++step) {
      want.update(c, 0.5 * static_cast<double>(static_cast<float>(grads[i])), step);
    }
    // Three updates of about ten rounded operations on values up to |p| + 0.03.
    ASSERT_NEAR(got[i], want.p, 4e-7 * (std::abs(want.p) + 0.03)) << "param " << i;
    ASSERT_NEAR(got_m[i], want.m, 6e-7 * std::abs(want.m)) << "m " << i;
    ASSERT_NEAR(got_v[i], want.v, 6e-7 * want.v) << "v " << i;
  }
  expect_rounded(weights.to_host(), got);
}

TEST(CudaOptim, AdamwAgreesWithDouble) {
  for (const std::int64_t n : kOptimCounts) {
    for (const int offset : {0, 1}) {
      check_adamw<float>(n, offset);
      check_adamw<bf16>(n, offset);
    }
  }
}

template <class Grad>
void check_sgd(const SgdCase& c, std::int64_t n, int offset) {
  SCOPED_TRACE(::testing::Message() << n << ' ' << name_of(DTypeOf<Grad>::value) << " momentum "
                                    << c.momentum << " offset " << offset);
  const std::vector<float> start = normal_values<float>(n, 3), zeros(start.size());
  const std::vector<Grad> grads = normal_values<Grad>(n, 4);
  const DeviceArray<float> param(start, offset), buffer(zeros, offset);
  const DeviceArray<Grad> grad(grads, offset);
  const DeviceArray<bf16> weights(n, offset);
  for (int step = 0; step < 3; ++step) {
    const DeviceArray<StepState> state(std::vector<StepState>{{.lr = c.lr / kLrScale}});
    Sgd args{.param = param.data(),
             .grad = nullptr,
             .momentum_buffer = c.momentum > 0 ? buffer.data() : nullptr,
             .n = n,
             .lr = step != 1 ? c.lr / kLrScale : 9,
             .momentum = c.momentum,
             .weight_decay = c.weight_decay,
             .grad_scale = 2,
             .nesterov = c.nesterov,
             .state = step != 1 ? nullptr : state.data(),
             .param_bf16 = weights.data(),
             .lr_scale = kLrScale};
    set_grad(args, grad);
    sgd(Cuda{}, args);
  }
  const std::vector<float> got = param.to_host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = 2.0 * static_cast<double>(static_cast<float>(grads[i]));
    SgdElement want{start[i]};
    for (int step = 0; step < 3; ++step) want.update(c, g);
    // Updates are up to three times the gradient.
    ASSERT_NEAR(got[i], want.p, 1e-6 * (std::abs(want.p) + std::abs(g) + std::abs(start[i]))) << i;
  }
  expect_rounded(weights.to_host(), got);
}

TEST(CudaOptim, SgdAgreesWithDouble) {
  for (const SgdCase& c : kSgdCases) {
    for (const std::int64_t n : kOptimCounts) {
      for (const int offset : {0, 1}) {
        check_sgd<float>(c, n, offset);
        check_sgd<bf16>(c, n, offset);
      }
    }
  }
}

// param of AdamW, then of SGD, after a step with that sum of squares (0: none is given).
std::vector<float> clipped_step(double squares, bool from_state, float scale, float clip = 2) {
  constexpr std::int64_t kCount = 1009;
  constexpr float kLr = 0.02f;
  const std::vector<float> zeros(kCount);
  const DeviceArray<float> p(normal_values<float>(kCount, 1)), q(normal_values<float>(kCount, 1)),
      m(zeros), v(zeros), grad(normal_values<float>(kCount, 2));
  const DeviceArray<double> sum(std::vector<double>{squares});
  const DeviceArray<StepState> state(
      std::vector<StepState>{{.optimizer_step = 3, .lr = kLr, .clip_norm = clip}});
  adamw(Cuda{}, {.param = p.data(),
                 .grad = grad.data(),
                 .m = m.data(),
                 .v = v.data(),
                 .n = kCount,
                 .beta1 = 0.9,
                 .beta2 = 0.999,
                 .lr = from_state ? 9 : kLr,
                 .eps = 1e-8f,
                 .weight_decay = 0.1f,
                 .grad_scale = scale,
                 .step = from_state ? 1 : 3,
                 .grad_sum_of_squares = squares == 0 ? nullptr : sum.data(),
                 .clip_norm = from_state ? 7 : clip,
                 .state = from_state ? state.data() : nullptr});
  sgd(Cuda{}, {.param = q.data(),
               .grad = grad.data(),
               .momentum_buffer = nullptr,
               .n = kCount,
               .lr = from_state ? 9 : kLr,
               .momentum = 0,
               .weight_decay = 0.1f,
               .grad_scale = scale,
               .nesterov = false,
               .grad_sum_of_squares = squares == 0 ? nullptr : sum.data(),
               .clip_norm = from_state ? 7 : clip,
               .state = from_state ? state.data() : nullptr});
  std::vector<float> out = p.to_host();
  const std::vector<float> other = q.to_host();
  out.insert(out.end(), other.begin(), other.end());
  return out;
}

TEST(CudaOptim, ClipsAndReadsTheState) {
  const auto expect_close = [](const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-7 * (std::abs(b[i]) + 1));
  };
  // A norm of 8 = 16 * 0.5 is clipped to 2, one of 1 is left alone.
  const std::vector<float> clipped = clipped_step(256, false, 0.5f);
  expect_close(clipped, clipped_step(0, false, static_cast<float>(0.5 * (2 / (8 + 1e-6)))));
  EXPECT_EQ(clipped_step(256, true, 0.5f), clipped);
  EXPECT_EQ(clipped_step(4, false, 0.5f), clipped_step(0, false, 0.5f));
  // Without a norm to clip to, the sum only tells whether all is finite.
  EXPECT_EQ(clipped_step(256, false, 0.5f, 0), clipped_step(0, false, 0.5f));
  EXPECT_EQ(clipped_step(256, true, 0.5f, 0), clipped_step(0, false, 0.5f));
  // Beyond the range of float, and within it again as a norm.
  expect_close(clipped_step(1e60, false, 0.5f), clipped_step(0, false, 2e-30f));
  std::vector<float> untouched = normal_values<float>(1009, 1);
  untouched.insert(untouched.end(), untouched.begin(), untouched.begin() + 1009);
  for (const double bad : {NAN * 1.0, INFINITY * 1.0}) {
    EXPECT_EQ(clipped_step(bad, false, 0.5f), untouched);
    EXPECT_EQ(clipped_step(bad, true, 0.5f), untouched);
  }
}

template <class T>
double squares(const std::vector<T>& values, int offset) {
  const DeviceArray<T> x(values, offset);
  const DeviceArray<double> out(1);
  SumOfSquares args{.x = nullptr, .out = out.data(), .n = x.size()};
  if constexpr (std::is_same_v<T, bf16>) {
    args.x_bf16 = x.data();
  } else {
    args.x = x.data();
  }
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(sum_of_squares_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  sum_of_squares(Cuda{}, args);
  return out.to_host()[0];
}

template <class T>
void check_squares(std::int64_t n, int offset) {
  const std::vector<T> x = normal_values<T>(n, 5, 1e3);
  double want = 0;
  for (const T v : x) want += std::pow(static_cast<double>(static_cast<float>(v)), 2);
  std::optional<double> first;
  testing::for_schedules([&] {
    const double got = squares(x, offset);
    if (!first) first = got;
    EXPECT_EQ(got, *first) << "bits depend on the schedule";
  });
  EXPECT_NEAR(*first, want, 1e-13 * want) << n << " offset " << offset;
}

TEST(CudaOptim, SumOfSquares) {
  for (const std::int64_t n : kOptimCounts) {
    check_squares<float>(n, 0);
    check_squares<bf16>(n, 0);
    if (n < 100000) check_squares<float>(n, 1);
    if (n < 100000) check_squares<bf16>(n, 1);
  }
  // The square of the largest float is far inside the range of double.
  EXPECT_TRUE(
      std::isfinite(squares(std::vector<float>(100, std::numeric_limits<float>::max()), 0)));
}

TEST(CudaOptim, SumOfSquaresIsNotFiniteWhereverNanOrInfinityStands) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const std::size_t at : {0u, 5u, 255u, 4096u, 9002u}) {
      std::vector<float> x(9003, 1.0f);
      x[at] = bad;
      EXPECT_FALSE(std::isfinite(squares(x, 0))) << bad << " at " << at;
    }
  }
}

TEST(CudaOptim, AverageWeights) {
  for (const std::int64_t n : kOptimCounts) {
    for (const int offset : {0, 1}) {
      const std::vector<float> start = normal_values<float>(n, 6),
                               values = normal_values<float>(n, 7);
      const DeviceArray<float> average(start, offset), param(values, offset), unset(n, offset);
      average_weights(Cuda{}, {average.data(), param.data(), 0.125f, n});
      const std::vector<float> got = average.to_host();
      for (std::size_t i = 0; i < got.size(); ++i) {
        const double want = start[i] + 0.125 * (static_cast<double>(values[i]) - start[i]);
        ASSERT_NEAR(got[i], want, 3e-7 * (std::abs(start[i]) + std::abs(values[i])));
      }
      // Weight 1 copies, also over NaN.
      average_weights(Cuda{}, {unset.data(), param.data(), 1, n});
      ASSERT_EQ(unset.to_host(), values);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
