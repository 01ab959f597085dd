#include "kernels/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

// Everything that one forward and backward pass of layer norm yields.
template <class T>
struct Result {
  std::vector<T> y, mean, rstd, dx, dweight, dbias;
};

template <class T>
Result<T> run(std::int64_t rows, std::int64_t cols, double shift = 0,
              GradMode mode = GradMode::kAssign) {
  const auto x = normal_values<T>(rows * cols, 1, 2, shift), weight = normal_values<T>(cols, 2),
             bias = normal_values<T>(cols, 3), dy = normal_values<T>(rows * cols, 4);
  const auto n = static_cast<std::size_t>(rows * cols), c = static_cast<std::size_t>(cols),
             r = static_cast<std::size_t>(rows);
  Result<T> out{std::vector<T>(n),    std::vector<T>(r),    std::vector<T>(r),
                std::vector<T>(n, 1), std::vector<T>(c, 1), std::vector<T>(c, 1)};
  layer_norm_fwd<T>(Cpu{}, {.x = x.data(),
                            .weight = weight.data(),
                            .bias = bias.data(),
                            .y = out.y.data(),
                            .mean = out.mean.data(),
                            .rstd = out.rstd.data(),
                            .rows = rows,
                            .cols = cols,
                            .eps = 1e-6f});
  layer_norm_bwd<T>(Cpu{}, {.dy = dy.data(),
                            .x = x.data(),
                            .weight = weight.data(),
                            .mean = out.mean.data(),
                            .rstd = out.rstd.data(),
                            .dx = out.dx.data(),
                            .dx_mode = mode,
                            .dweight = out.dweight.data(),
                            .dbias = out.dbias.data(),
                            .dweight_mode = mode,
                            .dbias_mode = mode,
                            .rows = rows,
                            .cols = cols});
  return out;
}

double worst(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, size = 1e-30;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return difference / size;
}

struct Case {
  std::int64_t rows, cols;
};
const Case kCases[] = {{1, 1},   {3, 5},  {7, 8},    {2, 17},    {64, 31},
                       {65, 96}, {0, 16}, {37, 127}, {1100, 33}, {300, 768}};

// The reference is the definition, in double and without a shared line of code.
TEST(LayerNormKernel, DoubleMatchesTheDefinition) {
  for (const Case& s : kCases) {
    const auto x = normal_values<double>(s.rows * s.cols, 1, 2),
               weight = normal_values<double>(s.cols, 2), bias = normal_values<double>(s.cols, 3);
    const Result<double> got = run<double>(s.rows, s.cols);
    for (std::int64_t r = 0; r < s.rows; ++r) {
      double mean = 0, variance = 0;
      for (std::int64_t c = 0; c < s.cols; ++c) mean += x[r * s.cols + c] / s.cols;
      for (std::int64_t c = 0; c < s.cols; ++c) {
        variance += std::pow(x[r * s.cols + c] - mean, 2) / s.cols;
      }
      for (std::int64_t c = 0; c < s.cols; ++c) {
        const double xhat = (x[r * s.cols + c] - mean) / std::sqrt(variance + double{1e-6f});
        ASSERT_NEAR(got.y[r * s.cols + c], xhat * weight[c] + bias[c], 1e-11)
            << s.rows << " x " << s.cols << " at " << r << ", " << c;
      }
    }
  }
}

// Sums of `cols` rounded terms in a few partial sums, then one division and one square root: a few
// dozen roundings of 6e-8 at worst; parameter gradients add `rows` terms in chunks.
TEST(LayerNormKernel, FloatIsNearDouble) {
  for (const Case& s : kCases) {
    if (s.cols == 1) continue;  // dx is a difference of equal numbers
    const Result<float> got = run<float>(s.rows, s.cols);
    const Result<double> want = run<double>(s.rows, s.cols);
    SCOPED_TRACE(::testing::Message() << s.rows << " x " << s.cols);
    EXPECT_LT(worst(got.y, want.y), 2e-6);
    EXPECT_LT(worst(got.mean, want.mean), 2e-6);
    EXPECT_LT(worst(got.rstd, want.rstd), 2e-6);
    EXPECT_LT(worst(got.dx, want.dx), 5e-6);
    EXPECT_LT(worst(got.dweight, want.dweight), 5e-6);
    EXPECT_LT(worst(got.dbias, want.dbias), 5e-6);
  }
}

// A mean 1000 times the spread must not eat the variance: x itself is exact, so only the mean's
// rounding (1000 * 6e-8 against a spread of 2) shows.
TEST(LayerNormKernel, SurvivesALargeMean) {
  const Result<float> got = run<float>(20, 768, 2000);
  const Result<double> want = run<double>(20, 768, 2000);
  EXPECT_LT(worst(got.y, want.y), 3e-4);
  EXPECT_LT(worst(got.rstd, want.rstd), 1e-5);
}

TEST(LayerNormKernel, AccumulateAddsToWhatIsThere) {
  for (const Case& s : {Case{5, 19}, Case{200, 64}}) {
    const Result<double> fresh = run<double>(s.rows, s.cols);
    const Result<double> added = run<double>(s.rows, s.cols, 0, GradMode::kAccumulate);
    for (std::size_t i = 0; i < fresh.dx.size(); ++i) {
      ASSERT_NEAR(added.dx[i], fresh.dx[i] + 1, 1e-12);
    }
    for (std::size_t i = 0; i < fresh.dbias.size(); ++i) {
      ASSERT_NEAR(added.dweight[i], fresh.dweight[i] + 1, 1e-11);
      ASSERT_NEAR(added.dbias[i], fresh.dbias[i] + 1, 1e-11);
    }
  }
}

TEST(LayerNormKernel, BitsDoNotDependOnThreads) {
  const int before = thread_count();
  set_thread_count(1);
  const Result<float> one = run<float>(1003, 70);
  for (const int threads : {2, 3, 5}) {
    set_thread_count(threads);
    const Result<float> many = run<float>(1003, 70);
    EXPECT_EQ(one.y, many.y);
    EXPECT_EQ(one.dx, many.dx);
    EXPECT_EQ(one.dweight, many.dweight);
    EXPECT_EQ(one.dbias, many.dbias);
  }
  set_thread_count(before);
}

TEST(LayerNormKernel, NoRowsGiveZeroParameterGradients) {
  const Result<float> got = run<float>(0, 9);
  EXPECT_EQ(got.dweight, std::vector<float>(9, 0));
  EXPECT_EQ(got.dbias, std::vector<float>(9, 0));
}

}  // namespace
}  // namespace onpa::kernels
