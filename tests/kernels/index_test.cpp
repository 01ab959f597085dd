#include "kernels/index.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/index_cases.h"

namespace onpa::kernels {
namespace {

std::vector<float> counting(std::int64_t n) {
  std::vector<float> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 1.0f);
  return out;
}

LeadingTokens<float> arguments(const LeadingCase& c, const std::vector<float>& x,
                               std::vector<float>& y, GradMode mode) {
  return {.x = x.data(),
          .y = y.data(),
          .mode = mode,
          .batch = c.batch,
          .tokens = c.tokens,
          .cols = c.cols,
          .count = c.count};
}

// What a backward kernel leaves in place of `before`.
template <class Kernel>
std::vector<float> backward(const LeadingCase& c, const std::vector<float>& dy, float before,
                            GradMode mode, const Kernel& kernel) {
  std::vector<float> dx(static_cast<std::size_t>(c.batch * c.tokens * c.cols), before);
  kernel(arguments(c, dy, dx, mode));
  return dx;
}

TEST(Index, LeadingMean) {
  const auto kernel = [](const LeadingTokens<float>& a) { leading_mean_bwd(Cpu{}, a); };
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    for (const LeadingCase& c : kLeadingCases) {
      const std::vector<float> x = counting(c.batch * c.tokens * c.cols),
                               dy = counting(c.batch * c.cols);
      std::vector<float> y(dy.size(), 9.0f);
      leading_mean_fwd(Cpu{}, arguments(c, x, y, GradMode::kAssign));
      const auto assigned = backward(c, dy, 9, GradMode::kAssign, kernel);
      const auto added = backward(c, dy, 1, GradMode::kAccumulate, kernel);
      for (std::int64_t i = 0; i < c.batch * c.cols; ++i) {
        const std::int64_t b = i / c.cols, j = i % c.cols;
        double mean = 0;
        for (std::int64_t t = 0; t < c.tokens; ++t) {
          const std::int64_t at = (b * c.tokens + t) * c.cols + j;
          const float share = t < c.count ? dy[i] / static_cast<float>(c.count) : 0.0f;
          EXPECT_FLOAT_EQ(assigned[at], share);
          EXPECT_FLOAT_EQ(added[at], 1 + share);
          if (t < c.count) mean += x[at];
        }
        EXPECT_FLOAT_EQ(y[i], static_cast<float>(mean / static_cast<double>(c.count)));
      }
    }
  }
}

TEST(Index, LeadingRowsAndBack) {
  const auto kernel = [](const LeadingTokens<float>& a) { leading_rows_bwd(Cpu{}, a); };
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    for (const LeadingCase& c : kLeadingCases) {
      const std::vector<float> x = counting(c.batch * c.tokens * c.cols);
      std::vector<float> y(static_cast<std::size_t>(c.batch * c.count * c.cols), 9.0f);
      leading_rows_fwd(Cpu{}, arguments(c, x, y, GradMode::kAssign));
      const auto assigned = backward(c, y, 9, GradMode::kAssign, kernel);
      const auto added = backward(c, y, 1, GradMode::kAccumulate, kernel);
      for (std::int64_t i = 0; i < std::ssize(x); ++i) {
        const std::int64_t b = i / (c.tokens * c.cols), place = i % (c.tokens * c.cols);
        const bool leads = place < c.count * c.cols;
        if (leads) {
          EXPECT_EQ(y[b * c.count * c.cols + place], x[i]);
        }
        EXPECT_EQ(assigned[i], leads ? x[i] : 0.0f);
        EXPECT_EQ(added[i], leads ? 1 + x[i] : 1.0f);
      }
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
