#include "apps/study/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/study/metrics.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

nlohmann::json golden() {
  std::ifstream file(ONPA_GOLDEN_DIR "/statistics.json");
  return nlohmann::json::parse(file);
}

double number(const nlohmann::json& value) {
  return value.is_null() ? std::nan("") : value.get<double>();
}

std::vector<double> numbers(const nlohmann::json& list) {
  std::vector<double> out;
  for (const auto& value : list) out.push_back(number(value));
  return out;
}

// Equal to a part in 1e-9, a tiny p too; NaN only where NaN is wanted.
void expect_equal(double got, double want, const std::string& what) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << what << ": " << got;
  } else {
    EXPECT_NEAR(got, want, 1e-9 * std::abs(want)) << what;
  }
}

TEST(Wilcoxon, MatchesScipy) {
  const auto json = golden();
  ASSERT_GE(json["wilcoxon"].size(), 24u);
  for (const auto& c : json["wilcoxon"]) {
    const std::string name = c["name"];
    const Wilcoxon w = wilcoxon_signed_rank(numbers(c["a"]), numbers(c["b"]));
    if (name != "a NaN") {
      EXPECT_EQ(w.n, c["n"].get<std::int64_t>()) << name;
    }
    expect_equal(w.statistic, number(c["statistic"]), name + ", statistic");
    expect_equal(w.p, number(c["p"]), name + ", p");
    expect_equal(w.z, number(c["z"]), name + ", z");
  }
}

TEST(Wilcoxon, WithoutPairsKnowsNothing) {
  const Wilcoxon w = wilcoxon_signed_rank({}, {});
  EXPECT_EQ(w.n, 0);
  EXPECT_TRUE(std::isnan(w.p) && std::isnan(w.z) && std::isnan(w.statistic));
  EXPECT_THROW(wilcoxon_signed_rank(std::vector<double>{1}, {}), Error);
}

TEST(Spearman, MatchesScipy) {
  const auto json = golden();
  ASSERT_GE(json["spearman"].size(), 13u);
  for (const auto& c : json["spearman"]) {
    const std::string name = c["name"];
    const Correlation s = spearman(numbers(c["a"]), numbers(c["b"]));
    expect_equal(s.r, number(c["r"]), name + ", r");
    expect_equal(s.p, number(c["p"]), name + ", p");
  }
}

TEST(Spearman, OfOneOrNoneIsUnknown) {
  EXPECT_TRUE(std::isnan(spearman({}, {}).r));
  const std::vector<double> one = {1};
  EXPECT_TRUE(std::isnan(spearman(one, one).r));
  EXPECT_THROW(spearman(one, {}), Error);
}

TEST(MeanRanks, TiesShareTheirMean) {
  EXPECT_EQ(mean_ranks(std::vector<double>{0.3, 0.1, 0.3, 0.2}),
            (std::vector<double>{3.5, 1, 3.5, 2}));
}

TEST(ErrorsByBin, MatchScikitLearn) {
  const auto json = golden();
  ASSERT_GE(json["bins"].size(), 5u);
  for (const auto& c : json["bins"]) {
    const auto errors = numbers(c["errors"]);
    const auto bins = errors_by_bin(numbers(c["popularity"]), errors, c["width"].get<double>());
    const auto used = c["used"].get<std::vector<std::size_t>>();
    std::int64_t n = 0;
    for (std::size_t i = 0, at = 0; i < bins.size(); ++i) {
      n += bins[i].n;
      if (at == used.size() || used[at] != i) {
        EXPECT_EQ(bins[i].n, 0);
        EXPECT_TRUE(std::isnan(bins[i].mae));
        continue;
      }
      expect_equal(bins[i].mae, c["bin_mae"][at].get<double>(), "MAE of a bin");
      expect_equal(bins[i].mse, c["bin_mse"][at].get<double>(), "MSE of a bin");
      ++at;
    }
    EXPECT_EQ(n, std::ssize(errors));
    EXPECT_EQ(bins.front().low, 0);
    EXPECT_EQ(bins.back().high, 100);
    const BinBalanced balanced = bin_balanced(bins);
    EXPECT_EQ(balanced.bins, std::ssize(used));
    EXPECT_EQ(balanced.bin_width, c["width"].get<double>());
    expect_equal(balanced.mae, c["mae"].get<double>(), "MAE");
    expect_equal(balanced.rmse, c["rmse"].get<double>(), "RMSE");
  }
}

TEST(ErrorsByBin, RefuseWhatIsNoPopularity) {
  const std::vector<double> one = {0.1};
  EXPECT_THROW(errors_by_bin(std::vector<double>{101}, one), Error);
  EXPECT_THROW(errors_by_bin(std::vector<double>{-1}, one), Error);
  EXPECT_THROW(errors_by_bin({}, one), Error);
  EXPECT_THROW(errors_by_bin(one, one, 0), Error);
  EXPECT_EQ(bin_balanced(errors_by_bin({}, {})).bins, 0);
}

std::vector<double> normal_errors(std::size_t n, std::uint64_t seed) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  std::vector<double> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(0.1 * rng.normal());
  return out;
}

// Of normal errors the standard error of MAE and RMSE is known; a percentile interval of 1,000
// draws is within a fifth of it.
TEST(Bootstrap, IntervalsAreAsWideAsTheoryHasThem) {
  const std::size_t n = 4000;
  const std::vector<double> errors = normal_errors(n, 3);
  const ErrorIntervals out = bootstrap_errors(errors, 1);
  const double root = std::sqrt(static_cast<double>(n));
  const double mae_error = 0.1 * std::sqrt(1 - 2 / M_PI) / root,
               rmse_error = 0.1 / (root * M_SQRT2);
  EXPECT_NEAR(out.mae.high - out.mae.low, 2 * 1.96 * mae_error, 0.2 * 2 * 1.96 * mae_error);
  EXPECT_NEAR(out.rmse.high - out.rmse.low, 2 * 1.96 * rmse_error, 0.2 * 2 * 1.96 * rmse_error);
  const ErrorIntervals narrow = bootstrap_errors(errors, 1, 1000, 0.5);
  EXPECT_GT(narrow.mae.low, out.mae.low);
  EXPECT_LT(narrow.mae.high, out.mae.high);
}

// 200 samples of a known distribution: the true MAE lies in about 190 of the intervals.
TEST(Bootstrap, IntervalsCoverTheTruth) {
  int covered = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const ErrorIntervals out = bootstrap_errors(normal_errors(150, seed), seed, 400);
    const double truth = 0.1 * std::sqrt(2 / M_PI);
    covered += out.mae.low <= truth && truth <= out.mae.high;
  }
  EXPECT_GE(covered, 178);
  EXPECT_LE(covered, 199);
}

TEST(Bootstrap, DependsOnTheSeedAloneAndPairsItsColumns) {
  const std::vector<double> a = normal_errors(301, 1), b = normal_errors(301, 2);
  std::vector<double> shifted;
  for (const double e : a) shifted.push_back(std::abs(e) + 0.25);
  const std::span<const double> columns[] = {shifted, b};
  const auto first = bootstrap_means(columns, 7, 200);
  const int threads = kernels::thread_count();
  kernels::set_thread_count(threads == 1 ? 3 : 1);
  const auto second = bootstrap_means(columns, 7, 200);
  kernels::set_thread_count(threads);
  EXPECT_EQ(first[0].low, second[0].low);
  EXPECT_EQ(first[1].high, second[1].high);
  EXPECT_NE(bootstrap_means(columns, 8, 200)[0].low, first[0].low);
  // The same rows in each column, and in the intervals of single ones.
  const ErrorIntervals alone = bootstrap_errors(a, 7, 200);
  EXPECT_NEAR(alone.mae.low + 0.25, first[0].low, 1e-12);
}

TEST(Bootstrap, OfOneTrackIsThatTrack) {
  const std::vector<double> one = {-0.5};
  const ErrorIntervals out = bootstrap_errors(one, 1, 10);
  EXPECT_EQ(out.mae.low, 0.5);
  EXPECT_EQ(out.mae.high, 0.5);
  EXPECT_EQ(out.rmse.low, 0.5);
  EXPECT_THROW(bootstrap_errors({}, 1), Error);
  EXPECT_THROW(bootstrap_errors(one, 1, 0), Error);
  EXPECT_THROW(bootstrap_errors(one, 1, 10, 1), Error);
}

}  // namespace
}  // namespace onpa::apps
