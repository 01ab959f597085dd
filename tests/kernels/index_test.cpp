#include "kernels/index.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

std::vector<float> counting(std::int64_t n) {
  std::vector<float> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 1.0f);
  return out;
}

struct Case {
  std::int64_t batch, rows, cols;
  std::vector<std::int32_t> index;
};
const std::vector<Case> kCases = {{1, 1, 1, {0}},    {2, 5, 3, {4, 1, 1, 0}},
                                  {3, 7, 17, {6}},   {2, 4, 5, {}},
                                  {0, 4, 5, {1, 2}}, {5, 200, 33, {199, 0, 100, 100, 100, 7}}};

TEST(Index, GatherAndScatterAgreeWithTheirDefinition) {
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    for (const auto& [batch, rows, cols, index] : kCases) {
      const std::int64_t kept = static_cast<std::int64_t>(index.size());
      const std::vector<float> x = counting(batch * rows * cols),
                               dy = counting(batch * kept * cols);
      std::vector<float> y(dy.size());
      gather_rows<float>(Cpu{}, {.x = x.data(),
                                 .index = index.data(),
                                 .y = y.data(),
                                 .batch = batch,
                                 .rows = rows,
                                 .kept = kept,
                                 .cols = cols});
      std::vector<float> want(x.size(), 0.0f);
      for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t i = 0; i < kept; ++i) {
          for (std::int64_t j = 0; j < cols; ++j) {
            const std::int64_t source = (b * rows + index[i]) * cols + j;
            const std::int64_t place = (b * kept + i) * cols + j;
            ASSERT_EQ(y[place], x[source]);
            want[source] += dy[place];
          }
        }
      }
      std::vector<float> dx(x.size(), 9.0f);
      ScatterRows<float> scatter{.dy = dy.data(),
                                 .index = index.data(),
                                 .dx = dx.data(),
                                 .mode = GradMode::kAssign,
                                 .batch = batch,
                                 .rows = rows,
                                 .kept = kept,
                                 .cols = cols};
      scatter_rows<float>(Cpu{}, scatter);
      EXPECT_EQ(dx, want);
      scatter.mode = GradMode::kAccumulate;
      scatter_rows<float>(Cpu{}, scatter);
      for (std::size_t i = 0; i < dx.size(); ++i) ASSERT_EQ(dx[i], 2 * want[i]);
    }
  }
}

TEST(Index, LeadingMean) {
  const std::int64_t batch = 3, tokens = 5, cols = 7;
  const std::vector<float> x = counting(batch * tokens * cols), dy = counting(batch * cols);
  for (const std::int64_t count : {1, 2, 5}) {
    std::vector<float> y(dy.size(), 9.0f), dx(x.size(), 1.0f);
    leading_mean_fwd<float>(Cpu{}, {.x = x.data(),
                                    .y = y.data(),
                                    .batch = batch,
                                    .tokens = tokens,
                                    .cols = cols,
                                    .count = count});
    leading_mean_bwd<float>(Cpu{}, {.dy = dy.data(),
                                    .dx = dx.data(),
                                    .mode = GradMode::kAccumulate,
                                    .batch = batch,
                                    .tokens = tokens,
                                    .cols = cols,
                                    .count = count});
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t j = 0; j < cols; ++j) {
        double mean = 0;
        for (std::int64_t t = 0; t < tokens; ++t) {
          const float share = t < count ? dy[b * cols + j] / static_cast<float>(count) : 0.0f;
          EXPECT_FLOAT_EQ(dx[(b * tokens + t) * cols + j], 1 + share);
          if (t < count) mean += x[(b * tokens + t) * cols + j];
        }
        EXPECT_FLOAT_EQ(y[b * cols + j], static_cast<float>(mean / static_cast<double>(count)));
      }
    }
  }
}

TEST(Index, LeadingRowsAndBack) {
  const std::int64_t batch = 2, tokens = 4, cols = 3, count = 2;
  const std::vector<float> x = counting(batch * tokens * cols);
  std::vector<float> y(static_cast<std::size_t>(batch * count * cols)), dx(x.size(), 5.0f);
  LeadingRows<float> args{.x = x.data(),
                          .y = y.data(),
                          .mode = GradMode::kAssign,
                          .batch = batch,
                          .tokens = tokens,
                          .cols = cols,
                          .count = count};
  leading_rows_fwd<float>(Cpu{}, args);
  EXPECT_EQ(y, (std::vector<float>{1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18}));
  args.x = y.data();
  args.y = dx.data();
  leading_rows_bwd<float>(Cpu{}, args);
  for (std::size_t i = 0; i < dx.size(); ++i) EXPECT_EQ(dx[i], i % 12 < 6 ? x[i] : 0.0f);
  args.mode = GradMode::kAccumulate;
  leading_rows_bwd<float>(Cpu{}, args);
  for (std::size_t i = 0; i < dx.size(); ++i) EXPECT_EQ(dx[i], i % 12 < 6 ? 2 * x[i] : 0.0f);
}

}  // namespace
}  // namespace onpa::kernels
