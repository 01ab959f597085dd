#include "kernels/optim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

// 1, primes, below and over a vector, over a chunk with an odd tail, empty.
constexpr std::int64_t kSizes[] = {0, 1, 3, 7, 17, 1009, 16384 + 5, 3 * 65536 + 13};

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
                  .lr = 0.01f,
                  .eps = 1e-8f,
                  .weight_decay = 0.1f,
                  .grad_scale = 0.5f,
                  .step = step});
  }
  param.insert(param.end(), m.begin(), m.end());
  param.insert(param.end(), v.begin(), v.end());
  return param;
}

TEST_F(OptimKernels, AdamwAgreesWithDouble) {
  for (const std::int64_t n : kSizes) {
    const std::vector<float> got = run_adamw(n);
    const std::vector<float> start = normal_values<float>(n, 1),
                             grad = normal_values<float>(n, 2, 0.3);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double g = 0.5 * grad[at];
      double p = start[at], m = 0, v = 0;
      for (int step = 1; step <= 3; ++step) {
        p -= 0.01f * 0.1f * p;
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        const double m_hat = m / (1 - std::pow(0.9, step));
        const double v_hat = v / (1 - std::pow(0.999, step));
        p -= 0.01f * m_hat / (std::sqrt(v_hat) + 1e-8f);
      }
      const auto size = static_cast<std::size_t>(n);
      // Three updates of about ten rounded operations on values up to |p| + 0.03.
      ASSERT_NEAR(got[at], p, 4e-7 * (std::abs(p) + 0.03)) << n << " param " << i;
      ASSERT_NEAR(got[at + size], m, 6e-7 * std::abs(m)) << n << " m " << i;
      ASSERT_NEAR(got[at + 2 * size], v, 6e-7 * v) << n << " v " << i;
    }
  }
}

TEST_F(OptimKernels, SgdAgreesWithDouble) {
  for (const bool nesterov : {false, true}) {
    for (const float momentum : {0.0f, 0.9f}) {
      for (const std::int64_t n : kSizes) {
        std::vector<float> param = normal_values<float>(n, 3), grad = normal_values<float>(n, 4),
                           buffer(param.size());
        const std::vector<float> start = param;
        for (int step = 0; step < 3; ++step) {
          sgd(Cpu{}, {.param = param.data(),
                      .grad = grad.data(),
                      .momentum_buffer = momentum > 0 ? buffer.data() : nullptr,
                      .n = n,
                      .lr = 0.1f,
                      .momentum = momentum,
                      .weight_decay = 0.01f,
                      .grad_scale = 2,
                      .nesterov = nesterov});
        }
        for (std::size_t i = 0; i < param.size(); ++i) {
          double p = start[i], b = 0;
          for (int step = 0; step < 3; ++step) {
            const double g = 2.0 * grad[i] + 0.01f * p;
            b = momentum * b + g;
            p -= 0.1f * (momentum == 0 ? g : nesterov ? g + momentum * b : b);
          }
          // Updates are up to three times the gradient of about 2 |grad|.
          ASSERT_NEAR(param[i], p, 1e-6 * (std::abs(p) + std::abs(grad[i]) + std::abs(start[i])))
              << n << " at " << i;
        }
      }
    }
  }
}

double squares(const std::vector<float>& x) {
  double out = -1;
  sum_of_squares(Cpu{}, {.x = x.data(), .out = &out, .n = static_cast<std::int64_t>(x.size())});
  return out;
}

TEST_F(OptimKernels, SumOfSquares) {
  for (const std::int64_t n : kSizes) {
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
  for (const std::int64_t n : kSizes) {
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
