#include "apps/study/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

nlohmann::json golden() {
  std::ifstream file(ONPA_GOLDEN_DIR "/metrics.json");
  return nlohmann::json::parse(file);
}

TEST(Metrics, MatchScikitLearn) {
  const nlohmann::json cases = golden().at("metrics");
  for (const auto& c : cases) {
    const auto y = c["target"].get<std::vector<float>>();
    const auto p = c["prediction"].get<std::vector<float>>();
    const RegressionMetrics m = regression_metrics(y, p);
    EXPECT_EQ(m.n, std::ssize(y));
    EXPECT_NEAR(m.rmse, c["rmse"].get<double>(), 1e-12);
    EXPECT_NEAR(m.mae, c["mae"].get<double>(), 1e-12);
    EXPECT_NEAR(m.r2, c["r2"].get<double>(), 1e-9);
  }
}

TEST(Metrics, ConstantTargetsHaveNoR2) {
  const std::vector<float> y = {0.5f, 0.5f}, p = {0.5f, 0.25f};
  const RegressionMetrics m = regression_metrics(y, p);
  EXPECT_TRUE(std::isnan(m.r2));
  EXPECT_DOUBLE_EQ(m.mae, 0.125);
  EXPECT_TRUE(std::isnan(regression_metrics(std::vector<float>{1}, std::vector<float>{1}).r2));
}

TEST(Metrics, RejectsUnequalOrEmpty) {
  EXPECT_THROW(regression_metrics(std::vector<float>{1}, std::vector<float>{}), Error);
  EXPECT_THROW(regression_metrics({}, {}), Error);
}

TEST(Ranks, MatchScipyWithTies) {
  const auto c = golden().at("ranks");
  EXPECT_EQ(ranks_ascending(c["values"].get<std::vector<double>>()),
            c["ranks"].get<std::vector<std::int64_t>>());
}

TEST(Ranks, DoNotDependOnTheOrderOfTies) {
  EXPECT_EQ(ranks_ascending(std::vector<double>{2, 1, 1}), (std::vector<std::int64_t>{3, 1, 1}));
  EXPECT_EQ(ranks_ascending(std::vector<double>{1, 2, 1}), (std::vector<std::int64_t>{1, 3, 1}));
  EXPECT_TRUE(ranks_ascending({}).empty());
  EXPECT_THROW(ranks_ascending(std::vector<double>{1, NAN}), Error);
}

TEST(LinearBaseline, MatchesScikitLearn) {
  const nlohmann::json cases = golden().at("linear");
  for (const auto& c : cases) {
    const LinearModel model =
        fit_linear(c["x"].get<std::vector<float>>(), c["y"].get<std::vector<float>>(),
                   c["columns"].get<std::int64_t>());
    const std::vector<float> got = model.predict(c["new"].get<std::vector<float>>());
    const auto want = c["predicted"].get<std::vector<double>>();
    ASSERT_EQ(got.size(), want.size());
    // The ridge of 1e-9 moves a prediction by about 1e-9 of its size; the output is fp32.
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], want[i], 1e-6 * (1 + std::abs(want[i])));
    }
  }
}

TEST(LinearBaseline, CollinearAndConstantColumnsAreHarmless) {
  std::vector<float> x, y;
  for (int i = 0; i < 20; ++i) {
    const float v = static_cast<float>(i) / 20;
    x.insert(x.end(), {v, 2 * v, 7});
    y.push_back(3 * v + 1);
  }
  const LinearModel model = fit_linear(x, y, 3);
  EXPECT_EQ(model.weight[2], 0);
  const std::vector<float> got = model.predict(std::vector<float>{0.5f, 1.0f, 7});
  EXPECT_NEAR(got[0], 2.5, 1e-6);
}

TEST(LinearBaseline, NoColumnsGivesTheMean) {
  EXPECT_DOUBLE_EQ(fit_linear({}, std::vector<float>{1, 2, 6}, 0).intercept, 3);
  EXPECT_THROW(fit_linear({}, {}, 0), Error);
  EXPECT_THROW(fit_linear(std::vector<float>{1, 2}, std::vector<float>{1}, 1), Error);
}

TEST(Bootstrap, CoversTheTrueDifferenceAndRepeats) {
  Philox rng({.seed = 3, .stream = kStreamTest});
  std::vector<double> a, b;
  for (int i = 0; i < 400; ++i) {
    a.push_back(0.1 * rng.normal());
    b.push_back(0.05 * rng.normal());
  }
  const PairedDifference d = bootstrap_mae_difference(a, b, 1);
  // E|N(0, s)| = 0.798 s, so the difference is 0.0399.
  EXPECT_LT(d.low, 0.0399);
  EXPECT_GT(d.high, 0.0399);
  EXPECT_GT(d.low, 0);
  EXPECT_LT(d.low, d.mean);
  EXPECT_GT(d.high, d.mean);
  const PairedDifference again = bootstrap_mae_difference(a, b, 1);
  EXPECT_EQ(d.low, again.low);
  EXPECT_EQ(d.high, again.high);
  EXPECT_NE(d.low, bootstrap_mae_difference(a, b, 2).low);
}

TEST(Bootstrap, EqualModelsDifferByNothing) {
  const std::vector<double> errors = {0.1, -0.2, 0.3};
  const PairedDifference d = bootstrap_mae_difference(errors, errors, 1);
  EXPECT_EQ(d.low, 0);
  EXPECT_EQ(d.high, 0);
}

}  // namespace
}  // namespace onpa::apps
