#include "data/relevance.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/philox.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

std::vector<double> numbers(const nlohmann::json& list) {
  return list.get<std::vector<double>>();
}

TEST(Relevance, IsUbls) {
  std::ifstream file(ONPA_GOLDEN_DIR "/rare.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  int values = 0;
  for (const auto& c : golden.at("relevance")) {
    const Relevance relevance = Relevance::fit(numbers(c["y"]));
    const std::vector<double> at = numbers(c["at"]), phi = numbers(c["phi"]);
    ASSERT_EQ(at.size(), phi.size());
    for (std::size_t i = 0; i < at.size(); ++i, ++values) {
      EXPECT_NEAR(relevance(at[i]), phi[i], 1e-12) << "target " << at[i];
    }
  }
  EXPECT_GT(values, 300);
}

TEST(Relevance, StepsWhereTheBoxIsAPoint) {
  const Relevance relevance = Relevance::fit(std::vector<double>{0, 0, 0, 0, 0, -1, 2});
  EXPECT_EQ(relevance(0), 0);
  EXPECT_EQ(relevance(-0.001), 1);
  EXPECT_EQ(relevance(0.001), 1);
}

TEST(Relevance, RejectsNothingAndNan) {
  testing::expect_error(ExitCode::kBadData, {"no targets"}, [] { Relevance::fit({}); });
  testing::expect_error(ExitCode::kBadData, {"nan"}, [] {
    Relevance::fit(std::vector<double>{1, std::numeric_limits<double>::quiet_NaN()});
  });
}

TEST(Relevance, OfFewOrEqualTargetsIsZero) {
  for (const std::vector<double>& y :
       {std::vector<double>{3}, std::vector<double>{3, 3, 3}, std::vector<double>{1, 2}}) {
    const Relevance relevance = Relevance::fit(y);
    for (const double t : {-10.0, 1.0, 1.5, 3.0, 10.0}) EXPECT_EQ(relevance(t), 0);
    EXPECT_EQ(bumps_of(y, 0.5).size(), 1u);
  }
}

// A long tail on the right, as popularity has one.
std::vector<double> skewed(std::int64_t n, std::uint64_t seed) {
  Philox rng({seed, kStreamTest, 0, 0});
  std::vector<double> y;
  for (std::int64_t i = 0; i < n; ++i) y.push_back(std::round(std::exp(1 + rng.normal())));
  return y;
}

RC_GTEST_PROP(Relevance, RisesAwayFromTheMedian, ()) {
  const auto n = *rc::gen::inRange<std::int64_t>(1, 60);
  const std::vector<double> y = skewed(n, *rc::gen::arbitrary<std::uint64_t>());
  const Relevance relevance = Relevance::fit(y);
  double before = 0;
  for (double t = relevance.median(); t < 40; t += 0.125) {
    const double phi = relevance(t);
    RC_ASSERT(phi >= before - 1e-12);
    RC_ASSERT(phi <= 1 + 1e-12);
    before = phi;
  }
}

RC_GTEST_PROP(Bumps, PartTheTargetsAndBalanceThem, ()) {
  const auto n = *rc::gen::inRange<std::int64_t>(1, 200);
  const std::vector<double> y = skewed(n, *rc::gen::arbitrary<std::uint64_t>());
  const double threshold = 0.01 * *rc::gen::inRange(1, 100);
  const Relevance relevance = Relevance::fit(y);
  const std::vector<Bump> bumps = bumps_of(y, threshold);
  std::vector<std::int64_t> all;
  const auto each = static_cast<std::int64_t>(
      std::nearbyint(static_cast<double>(n) / static_cast<double>(bumps.size())));
  for (std::size_t b = 0; b < bumps.size(); ++b) {
    const Bump& bump = bumps[b];
    RC_ASSERT(!bump.members.empty());
    if (b > 0) {
      RC_ASSERT(bump.rare != bumps[b - 1].rare);
      RC_ASSERT(bump.low > bumps[b - 1].high);
    }
    for (const std::int64_t i : bump.members) {
      RC_ASSERT((relevance(y[static_cast<std::size_t>(i)]) >= threshold) == bump.rare);
    }
    all.insert(all.end(), bump.members.begin(), bump.members.end());
    const auto size = std::ssize(bump.members);
    RC_ASSERT(bump.balance.extra >= 0 && bump.balance.extra < size);
    const std::int64_t total = bump.balance.kept + bump.balance.added(size);
    // Truncation takes one at most.
    RC_ASSERT(total == each || total == each - 1);
    RC_ASSERT(bump.balance.kept == size || bump.balance.added(size) == 0);
  }
  std::sort(all.begin(), all.end());
  std::vector<std::int64_t> want(static_cast<std::size_t>(n));
  std::iota(want.begin(), want.end(), 0);
  RC_ASSERT(all == want);
}

TEST(Choose, DependsOnTheKeysAlone) {
  const std::vector<std::int64_t> keys = {7, 5, 3, 11, 2, 9, 40, 12};
  const auto keys_of = [&](const std::vector<std::int64_t>& members,
                           std::span<const std::int64_t> of) {
    std::vector<std::int64_t> out;
    for (const std::int64_t m : members) out.push_back(of[static_cast<std::size_t>(m)]);
    std::sort(out.begin(), out.end());
    return out;
  };
  const std::vector<std::int64_t> members = {1, 2, 3, 4, 5, 6, 7};
  const std::vector<std::int64_t> chosen = choose(members, 3, keys, 1, kStreamTest, 0);
  EXPECT_EQ(chosen.size(), 3u);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  // The same tracks in another order.
  const std::vector<std::int64_t> turned = {12, 40, 9, 2, 11, 3, 5, 7};
  EXPECT_EQ(keys_of(choose({0, 1, 2, 3, 4, 5, 6}, 3, turned, 1, kStreamTest, 0), turned),
            keys_of(chosen, keys));
  EXPECT_EQ(choose(members, 7, keys, 1, kStreamTest, 0), members);
  EXPECT_TRUE(choose(members, 0, keys, 1, kStreamTest, 0).empty());
  // Another epoch, other tracks.
  int differ = 0;
  for (std::uint64_t epoch = 1; epoch < 20; ++epoch) {
    if (choose(members, 3, keys, 1, kStreamTest, epoch) != chosen) ++differ;
  }
  EXPECT_GT(differ, 10);
}

}  // namespace
}  // namespace onpa::data
