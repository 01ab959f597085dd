#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/elementwise_cases.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

TEST(Elementwise, Axpby) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<float> a = normal_values<float>(n, 1), b = normal_values<float>(n, 2);
    std::vector<float> y(a.size());
    axpby<float>(Cpu{},
                 {.a = a.data(), .b = b.data(), .y = y.data(), .alpha = 2, .beta = -3, .n = n});
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], 2 * a[i] + -3 * b[i]);
    axpby<float>(Cpu{},
                 {.a = a.data(), .b = nullptr, .y = y.data(), .alpha = 2, .beta = 0, .n = n});
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], 2 * a[i]);
  }
}

TEST(Elementwise, MultiplyAssignsAndAccumulates) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<float> a = normal_values<float>(n, 1), b = normal_values<float>(n, 2);
    std::vector<float> y(a.size(), 5.0f);
    Multiply<float> args{
        .a = a.data(), .b = b.data(), .y = y.data(), .mode = GradMode::kAssign, .n = n};
    multiply<float>(Cpu{}, args);
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], a[i] * b[i]);
    args.mode = GradMode::kAccumulate;
    multiply<float>(Cpu{}, args);
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], a[i] * b[i] + a[i] * b[i]);
  }
}

TEST(Elementwise, ColumnSumAgreesWithDoubleAndThreads) {
  for (const auto& [rows, cols] : kColumnCases) {
    const std::int64_t ldx = cols + 2;
    const std::vector<float> x = normal_values<float>(rows * ldx, 1);
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 3}) {
      set_thread_count(threads);
      std::vector<float> y(static_cast<std::size_t>(cols), 1.0f);
      column_sum<float>(Cpu{}, {.x = x.data(),
                                .ldx = ldx,
                                .y = y.data(),
                                .mode = GradMode::kAccumulate,
                                .rows = rows,
                                .cols = cols});
      results.push_back(y);
    }
    EXPECT_EQ(results[0], results[1]);
    for (std::int64_t j = 0; j < cols; ++j) {
      double want = 1;
      for (std::int64_t r = 0; r < rows; ++r) want += x[r * ldx + j];
      EXPECT_NEAR(results[0][j], want, 1e-5 * (1 + std::abs(want)) + 2e-6 * std::sqrt(rows));
    }
  }
}

TEST(Elementwise, SumAndBroadcast) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<float> x = normal_values<float>(n, 1);
    double want = 0;
    for (const float v : x) want += v;
    float y = -1;
    sum<float>(Cpu{}, {.x = x.data(), .y = &y, .alpha = 0.5f, .n = n});
    EXPECT_NEAR(y, 0.5 * want, 1e-6 * (1 + std::abs(want)));
    std::vector<float> filled(x.size(), 1.0f);
    broadcast_scalar<float>(
        Cpu{}, {.x = &y, .y = filled.data(), .alpha = 2, .mode = GradMode::kAccumulate, .n = n});
    for (const float v : filled) EXPECT_EQ(v, 1.0f + 2 * y);
  }
}

}  // namespace
}  // namespace onpa::kernels
