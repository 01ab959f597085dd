#include "kernels/optim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tests/kernels/optim_cases.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

// Restores the number of threads when a test ends.
class OptimKernels : public ::testing::Test {
 protected:
  ~OptimKernels() override { set_thread_count(threads_); }
  const int threads_ = thread_count();
};

// Runs three steps; returns param, m, v one after the other.
std::vector<float> run_adamw(std::int64_t n) {
  std::vector<float> param = normal_values<float>(n, 1), grad = normal_values<float>(n, 2, 0.3),
                     m(grad.size()), v(grad.size());
  for (std::int64_t step = 1; step <= 3; ++step) {
    adamw(Cpu{}, {.param = param.data(),
                  .grad = grad.data(),
                  .m = m.data(),
                  .v = v.data(),
                  .n = n,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .lr = 0.01f / kLrScale,
                  .eps = 1e-8f,
                  .weight_decay = 0.1f,
                  .grad_scale = 0.5f,
                  .step = step,
                  .lr_scale = kLrScale});
  }
  param.insert(param.end(), m.begin(), m.end());
  param.insert(param.end(), v.begin(), v.end());
  return param;
}

TEST_F(OptimKernels, AdamwAgreesWithDouble) {
  for (const std::int64_t n : kOptimCounts) {
    const std::vector<float> got = run_adamw(n);
    const std::vector<float> start = normal_values<float>(n, 1),
                             grad = normal_values<float>(n, 2, 0.3);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      AdamWElement want{start[at]};
      for (int step = 1; step <= 3; ++step) want.update({}, 0.5 * grad[at], step);
      const auto& [p, m, v] = want;
      const auto size = static_cast<std::size_t>(n);
      // Three updates of about ten rounded operations on values up to |p| + 0.03.
      ASSERT_NEAR(got[at], p, 4e-7 * (std::abs(p) + 0.03)) << n << " param " << i;
      ASSERT_NEAR(got[at + size], m, 6e-7 * std::abs(m)) << n << " m " << i;
      ASSERT_NEAR(got[at + 2 * size], v, 6e-7 * v) << n << " v " << i;
    }
  }
}

TEST_F(OptimKernels, SgdAgreesWithDouble) {
  for (const SgdCase& c : kSgdCases) {
    for (const std::int64_t n : kOptimCounts) {
      std::vector<float> param = normal_values<float>(n, 3), grad = normal_values<float>(n, 4),
                         buffer(param.size());
      const std::vector<float> start = param;
      for (int step = 0; step < 3; ++step) {
        sgd(Cpu{}, {.param = param.data(),
                    .grad = grad.data(),
                    .momentum_buffer = c.momentum > 0 ? buffer.data() : nullptr,
                    .n = n,
                    .lr = c.lr / kLrScale,
                    .momentum = c.momentum,
                    .weight_decay = c.weight_decay,
                    .grad_scale = 2,
                    .nesterov = c.nesterov,
                    .lr_scale = kLrScale});
      }
      for (std::size_t i = 0; i < param.size(); ++i) {
        SgdElement want{start[i]};
        for (int step = 0; step < 3; ++step) want.update(c, 2.0 * grad[i]);
        // Updates are up to three times the gradient of about 2 |grad|.
        ASSERT_NEAR(param[i], want.p,
                    1e-6 * (std::abs(want.p) + std::abs(grad[i]) + std::abs(start[i])))
            << n << " at " << i;
      }
    }
  }
}

// A clipped step is a step of the clipped gradient; its rate, its number and its limit can come
// from the step's state; one with a gradient that is not finite changes nothing.
TEST_F(OptimKernels, ClipsAndReadsTheState) {
  constexpr std::int64_t kCount = 1009;
  const std::vector<float> start = normal_values<float>(kCount, 1),
                           grad = normal_values<float>(kCount, 2), zeros(start.size());
  const StepState state{.step = 5, .optimizer_step = 3, .lr = 0.02f, .clip_norm = 2};
  const auto step = [&](double squares, const StepState* from, float scale) {
    std::vector<float> p = start, m = zeros, v = zeros, q = start;
    const bool given = from == nullptr;
    adamw(Cpu{}, {.param = p.data(),
                  .grad = grad.data(),
                  .m = m.data(),
                  .v = v.data(),
                  .n = kCount,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .lr = given ? 0.02f : 9,
                  .eps = 1e-8f,
                  .weight_decay = 0.1f,
                  .grad_scale = scale,
                  .step = given ? 3 : 1,
                  .grad_sum_of_squares = squares == 0 ? nullptr : &squares,
                  .clip_norm = given ? 2.0f : 0,
                  .state = from});
    sgd(Cpu{}, {.param = q.data(),
                .grad = grad.data(),
                .momentum_buffer = nullptr,
                .n = kCount,
                .lr = given ? 0.02f : 9,
                .momentum = 0,
                .weight_decay = 0.1f,
                .grad_scale = scale,
                .nesterov = false,
                .grad_sum_of_squares = squares == 0 ? nullptr : &squares,
                .clip_norm = given ? 2.0f : 0,
                .state = from});
    p.insert(p.end(), q.begin(), q.end());
    return p;
  };
  // A norm of 8 = 16 * 0.5 is clipped to 2, one of 1 is left alone.
  const std::vector<float> clipped = step(256, nullptr, 0.5f);
  EXPECT_EQ(clipped, step(0, nullptr, static_cast<float>(0.5 * (2 / (8 + 1e-6)))));
  EXPECT_EQ(step(256, &state, 0.5f), clipped);
  EXPECT_EQ(step(4, nullptr, 0.5f), step(0, nullptr, 0.5f));
  std::vector<float> untouched = start;
  untouched.insert(untouched.end(), start.begin(), start.end());
  EXPECT_EQ(step(NAN, nullptr, 0.5f), untouched);
  EXPECT_EQ(step(INFINITY, &state, 0.5f), untouched);
}

TEST_F(OptimKernels, BuffersOfBf16AreForCuda) {
  bf16 values[1] = {};
  AdamW adam{};
  adam.grad_bf16 = values;
  EXPECT_THROW(adamw(Cpu{}, adam), Error);
  Sgd descent{};
  descent.param_bf16 = values;
  EXPECT_THROW(sgd(Cpu{}, descent), Error);
  SumOfSquares squares{};
  squares.x_bf16 = values;
  EXPECT_THROW(sum_of_squares(Cpu{}, squares), Error);
}

double squares(const std::vector<float>& x) {
  double out = -1;
  sum_of_squares(Cpu{}, {.x = x.data(), .out = &out, .n = static_cast<std::int64_t>(x.size())});
  return out;
}

TEST_F(OptimKernels, SumOfSquares) {
  for (const std::int64_t n : kOptimCounts) {
    std::vector<float> x = normal_values<float>(n, 5, 1e3);
    double want = 0;
    for (const float v : x) want += static_cast<double>(v) * v;
    ASSERT_NEAR(squares(x), want, 1e-13 * want) << n;
  }
  // The square of the largest float is far inside the range of double.
  EXPECT_TRUE(std::isfinite(squares(std::vector<float>(1000, std::numeric_limits<float>::max()))));
}

TEST_F(OptimKernels, SumOfSquaresIsNotFiniteWhereverNanOrInfinityStands) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const std::size_t at : {0u, 5u, 15u, 16u, 70000u, 100002u}) {
      std::vector<float> x(100003, 1.0f);
      x[at] = bad;
      EXPECT_FALSE(std::isfinite(squares(x))) << bad << " at " << at;
    }
  }
}

TEST_F(OptimKernels, AverageWeights) {
  for (const std::int64_t n : kOptimCounts) {
    std::vector<float> average = normal_values<float>(n, 6);
    const std::vector<float> start = average, param = normal_values<float>(n, 7);
    average_weights(Cpu{},
                    {.average = average.data(), .param = param.data(), .weight = 0.125f, .n = n});
    for (std::size_t i = 0; i < average.size(); ++i) {
      const double want = start[i] + 0.125 * (static_cast<double>(param[i]) - start[i]);
      ASSERT_NEAR(average[i], want, 3e-7 * (std::abs(start[i]) + std::abs(param[i])));
    }
    // Weight 1 copies, also over NaN.
    std::fill(average.begin(), average.end(), NAN);
    average_weights(Cpu{}, {.average = average.data(), .param = param.data(), .weight = 1, .n = n});
    ASSERT_EQ(average, param);
  }
}

TEST_F(OptimKernels, ThreadsDoNotChangeABit) {
  constexpr std::int64_t kCount = 5 * 65536 + 11;
  const std::vector<float> x = normal_values<float>(kCount, 8);
  set_thread_count(1);
  const std::vector<float> one = run_adamw(kCount);
  const double sum = squares(x);
  for (const int threads : {2, 3, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(run_adamw(kCount), one) << threads;
    EXPECT_EQ(squares(x), sum) << threads;
  }
}

}  // namespace
}  // namespace onpa::kernels
