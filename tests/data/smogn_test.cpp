#include "data/smogn.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

using Rows = std::vector<std::int64_t>;

struct Table {
  std::int64_t columns = 1;
  std::vector<float> x;
  std::vector<double> y;
  Rows keys;
  SmognSet smogn(const SmognOptions& options = {}) const {
    return data::smogn(x, columns, y, keys, options);
  }
  float at(std::int64_t row, std::int64_t column) const {
    return x[static_cast<std::size_t>(row * columns + column)];
  }
};

Rows count_up(std::size_t n) {
  Rows out(n);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

// `levels` different values a column; targets with a long tail on the right.
Table made_up(std::int64_t n, std::int64_t columns, std::uint64_t seed,
              std::uint32_t levels = 1u << 20) {
  Philox rng({seed, kStreamTest, 2, 0});
  Table table;
  table.columns = columns;
  for (std::int64_t i = 0; i < n * columns; ++i) {
    table.x.push_back(static_cast<float>(rng.below(levels)) * 4 / static_cast<float>(levels) - 2);
  }
  for (std::int64_t i = 0; i < n; ++i) table.y.push_back(std::exp(rng.normal()));
  table.keys = count_up(table.y.size());
  return table;
}

struct Golden {
  nlohmann::json smogn;
  Table table;
  Golden() {
    std::ifstream file(ONPA_GOLDEN_DIR "/rare.json");
    smogn = nlohmann::json::parse(file).at("smogn");
    table.columns = smogn["columns"];
    table.x = smogn["x"].get<std::vector<float>>();
    table.y = smogn["y"].get<std::vector<double>>();
    table.keys = count_up(table.y.size());
  }
};

TEST(SmognParity, BumpsAndCountsAreUbls) {
  const Golden golden;
  const SmognSet set = golden.table.smogn();
  ASSERT_EQ(set.bumps.size(), golden.smogn["bumps"].size());
  std::int64_t kept = 0;
  for (std::size_t b = 0; b < set.bumps.size(); ++b) {
    const auto& want = golden.smogn["bumps"][b];
    const SmognBump& got = set.bumps[b];
    Rows members = got.bump.members, wanted = want["members"].get<Rows>();
    std::sort(members.begin(), members.end());
    std::sort(wanted.begin(), wanted.end());
    EXPECT_EQ(members, wanted);
    EXPECT_EQ(got.bump.rare, want["rare"].get<bool>());
    EXPECT_EQ(got.bump.balance.kept, want["kept"].get<std::int64_t>());
    EXPECT_EQ(got.interpolated + got.noisy, want["made"].get<std::int64_t>());
    kept += got.bump.balance.kept;
  }
  EXPECT_EQ(std::ssize(set.kept), kept);
}

// Which pairs are interpolated shows the neighbours and half the median distance, exactly.
TEST(SmognParity, PairsAreUbls) {
  const Golden golden;
  std::set<std::pair<std::int64_t, std::int64_t>> allowed, refused, seen;
  const std::int64_t k = golden.smogn["neighbours"];
  for (const auto& bump : golden.smogn["bumps"]) {
    if (!bump.contains("near")) continue;
    const Rows members = bump["members"].get<Rows>(), near = bump["near"].get<Rows>();
    const Rows ok = bump["ok"].get<Rows>();
    for (std::size_t i = 0; i < near.size(); ++i) {
      (ok[i] != 0 ? allowed : refused).emplace(members[i / static_cast<std::size_t>(k)], near[i]);
    }
  }
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    for (const SmognOrigin& origin : golden.table.smogn({.seed = seed}).origins) {
      if (origin.neighbour >= 0) seen.emplace(origin.seed_row, origin.neighbour);
    }
  }
  EXPECT_GT(refused.size(), 100u);
  EXPECT_EQ(seen, allowed);
}

std::vector<double> statistics(std::vector<double> v) {
  const auto n = static_cast<double>(v.size());
  const double mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
  double squares = 0;
  for (const double a : v) squares += (a - mean) * (a - mean);
  std::vector<double> out = {mean, std::sqrt(squares / (n - 1))};
  std::sort(v.begin(), v.end());
  for (const double q : {0.1, 0.5, 0.9}) {
    const double at = q * (n - 1);
    const auto low = static_cast<std::size_t>(at);
    out.push_back(v[low] + (at - std::floor(at)) * (v[low + 1] - v[low]));
  }
  return out;
}

// Means, standard deviations and three quantiles of what is made, over many seeds on both sides:
// they differ by less than five standard errors of their difference.
TEST(SmognParity, DistributionsAreUblsWithinSamplingError) {
  const Golden golden;
  constexpr int kRuns = 300;
  std::map<std::size_t, std::vector<double>> sums;
  for (std::uint64_t seed = 0; seed < kRuns; ++seed) {
    const SmognSet set = golden.table.smogn({.seed = seed});
    std::size_t place = 0;
    for (std::size_t b = 0; b < set.bumps.size(); ++b) {
      const auto made = static_cast<std::size_t>(set.bumps[b].interpolated + set.bumps[b].noisy);
      if (made == 0) continue;
      std::vector<double> all;
      for (std::size_t c = 0; c <= 3; ++c) {
        std::vector<double> column;
        for (std::size_t i = place; i < place + made; ++i) {
          column.push_back(c == 3 ? set.y[i] : set.x[i * 3 + c]);
        }
        const std::vector<double> s = statistics(column);
        all.insert(all.end(), s.begin(), s.end());
      }
      auto& sum = sums[b];
      sum.resize(all.size());
      for (std::size_t i = 0; i < all.size(); ++i) sum[i] += all[i] / kRuns;
      place += made;
    }
  }
  ASSERT_EQ(sums.size(), 2u);
  const double runs = golden.smogn["runs"];
  for (const auto& [b, means] : sums) {
    const auto want = golden.smogn["bumps"][b]["statistic"].get<std::vector<double>>();
    const auto spread = golden.smogn["bumps"][b]["spread"].get<std::vector<double>>();
    ASSERT_EQ(means.size(), want.size());
    for (std::size_t i = 0; i < means.size(); ++i) {
      EXPECT_NEAR(means[i], want[i], 5 * spread[i] * std::sqrt(1 / runs + 1.0 / kRuns))
          << "bump " << b << ", column " << i / 5 << ", statistic " << i % 5;
    }
  }
}

double slack(double v) {
  return 1e-6 * (1 + std::abs(v));
}

RC_GTEST_PROP(Smogn, KeepsItsPromises, ()) {
  const auto n = *rc::gen::inRange<std::int64_t>(1, 150);
  const auto columns = *rc::gen::inRange<std::int64_t>(1, 5);
  const Table table = made_up(n, columns, *rc::gen::arbitrary<std::uint64_t>(),
                              *rc::gen::element(1u, 2u, 1u << 20));
  const SmognOptions options = {.threshold = 0.01 * *rc::gen::inRange(1, 100),
                                .neighbours = *rc::gen::inRange<std::int64_t>(1, 12),
                                .perturbation = *rc::gen::element(0.0, 0.02, 5.0),
                                .seed = 7};
  const SmognSet set = table.smogn(options);
  RC_ASSERT(std::is_sorted(set.kept.begin(), set.kept.end()));
  RC_ASSERT(std::adjacent_find(set.kept.begin(), set.kept.end()) == set.kept.end());
  std::size_t place = 0;
  for (const SmognBump& made : set.bumps) {
    const Bump& bump = made.bump;
    const std::set<std::int64_t> members(bump.members.begin(), bump.members.end());
    const auto kept = std::count_if(set.kept.begin(), set.kept.end(),
                                    [&](std::int64_t row) { return members.contains(row); });
    RC_ASSERT(kept == bump.balance.kept);
    const std::int64_t count = made.interpolated + made.noisy;
    RC_ASSERT(count == bump.balance.added(std::ssize(bump.members)));
    for (const std::size_t end = place + static_cast<std::size_t>(count); place < end; ++place) {
      const SmognOrigin& origin = set.origins[place];
      RC_ASSERT(members.contains(origin.seed_row));
      const double y = set.y[place];
      if (origin.neighbour < 0) {
        RC_ASSERT(origin.weight <= options.perturbation);
        continue;
      }
      RC_ASSERT(members.contains(origin.neighbour) && origin.neighbour != origin.seed_row);
      RC_ASSERT(origin.weight >= 0 && origin.weight < 1);
      RC_ASSERT(y >= bump.low - slack(y) && y <= bump.high + slack(y));
      for (std::int64_t c = 0; c < columns; ++c) {
        const double a = table.at(origin.seed_row, c), b = table.at(origin.neighbour, c);
        const double x =
            set.x[place * static_cast<std::size_t>(columns) + static_cast<std::size_t>(c)];
        RC_ASSERT(std::abs(x - (a + origin.weight * (b - a))) <= slack(x));
      }
    }
  }
  RC_ASSERT(place == set.y.size());
  RC_ASSERT(set.x.size() == set.y.size() * static_cast<std::size_t>(columns));
}

TEST(Smogn, NoiseHasTheBumpsDeviationsAndNoMore) {
  // Rare rows so far apart that nothing is interpolated: each has its own corner.
  Table table;
  table.columns = 2;
  for (int i = 0; i < 400; ++i) {
    const bool rare = i >= 396;
    table.x.push_back(rare ? 1000.0f * static_cast<float>(i - 395) : 0.0f);
    table.x.push_back(7);
    table.y.push_back(rare ? 50 + i - 396 : 0);
  }
  table.keys = count_up(400);
  // Of four on a line the two in the middle have neighbours at 1000, half the median distance is
  // 500 or 750: none is near enough.
  const SmognSet set = table.smogn({.perturbation = 0.02, .seed = 3});
  ASSERT_EQ(set.bumps.size(), 2u);
  EXPECT_EQ(set.bumps[1].interpolated, 0);
  EXPECT_EQ(set.bumps[1].noisy, 196);
  const double deviation_x = 1290.9944, deviation_y = 1.2909944;  // of 1000 .. 4000 and 50 .. 53
  double squares_x = 0, squares_y = 0;
  for (std::size_t i = 0; i < set.y.size(); ++i) {
    const std::int64_t row = set.origins[i].seed_row;
    EXPECT_EQ(set.origins[i].weight, 0.02);
    EXPECT_EQ(set.x[2 * i + 1], 7);
    squares_x += std::pow((set.x[2 * i] - table.at(row, 0)) / (0.02 * deviation_x), 2);
    squares_y +=
        std::pow((set.y[i] - table.y[static_cast<std::size_t>(row)]) / (0.02 * deviation_y), 2);
  }
  // A sum of 196 squared normals has the standard deviation sqrt(392): five of them.
  EXPECT_NEAR(squares_x, 196, 99);
  EXPECT_NEAR(squares_y, 196, 99);
}

TEST(Smogn, LeavesOneBumpAlone) {
  Table constant = made_up(50, 3, 1);
  std::fill(constant.y.begin(), constant.y.end(), 0.25);
  Table flat = made_up(50, 3, 1);
  for (std::size_t i = 0; i < 50; ++i) flat.y[i] = static_cast<double>(i);
  for (const Table* table : {&constant, &flat}) {
    const SmognSet set = table->smogn();
    EXPECT_EQ(set.bumps.size(), 1u);
    EXPECT_FALSE(set.bumps[0].bump.rare);
    EXPECT_EQ(set.kept, table->keys);
    EXPECT_TRUE(set.y.empty());
  }
}

TEST(Smogn, AllButTheMedianCanBeRare) {
  Table table = made_up(60, 2, 4);
  for (std::size_t i = 0; i < 60; ++i) table.y[i] = i < 40 ? 0 : (i < 50 ? -1.0 : 1.0);
  const SmognSet set = table.smogn({.threshold = 1});
  ASSERT_EQ(set.bumps.size(), 3u);
  EXPECT_TRUE(set.bumps[0].bump.rare && !set.bumps[1].bump.rare && set.bumps[2].bump.rare);
  EXPECT_EQ(set.kept.size(), 40u);
  EXPECT_EQ(set.y.size(), 20u);
}

TEST(Smogn, RepeatsABumpOfOneRowAndEqualRows) {
  Table one = made_up(40, 2, 5);
  for (std::size_t i = 0; i < 40; ++i) one.y[i] = i == 17 ? 100 : 0;
  const SmognSet alone = one.smogn();
  ASSERT_EQ(alone.bumps.size(), 2u);
  ASSERT_EQ(alone.y.size(), 19u);
  for (std::size_t i = 0; i < alone.y.size(); ++i) {
    EXPECT_EQ(alone.y[i], 100);
    EXPECT_EQ(alone.x[2 * i], one.at(17, 0));
    EXPECT_EQ(alone.x[2 * i + 1], one.at(17, 1));
  }
  Table equal = one;
  equal.y[18] = equal.y[19] = 101;
  for (std::size_t row = 17; row < 20; ++row) equal.x[2 * row] = equal.x[2 * row + 1] = 0.5f;
  const SmognSet same = equal.smogn({.neighbours = 50});
  for (const float x : same.x) EXPECT_EQ(x, 0.5f);
  for (const double y : same.y) EXPECT_TRUE(y == 100 || y == 101);
}

TEST(Smogn, IsTheSameForAnyThreadsAndOrderOfRows) {
  // More rare rows than kMedianRows, so that the choice for the median is tested too.
  const Table table = made_up(23000, 2, 6);
  kernels::set_thread_count(1);
  const SmognSet one = table.smogn({.threshold = 0.3, .seed = 9});
  kernels::set_thread_count(3);
  const SmognSet three = table.smogn({.threshold = 0.3, .seed = 9});
  kernels::set_thread_count(2);
  ASSERT_GT(std::ssize(one.bumps.back().bump.members), kMedianRows);
  EXPECT_EQ(one.x, three.x);
  EXPECT_EQ(one.y, three.y);
  EXPECT_EQ(one.kept, three.kept);
  Table turned = table;
  const std::size_t n = table.y.size();
  for (std::size_t i = 0; i < n; ++i) {
    turned.y[i] = table.y[n - 1 - i];
    turned.keys[i] = table.keys[n - 1 - i];
    std::copy_n(table.x.begin() + static_cast<std::ptrdiff_t>(2 * (n - 1 - i)), 2,
                turned.x.begin() + static_cast<std::ptrdiff_t>(2 * i));
  }
  const SmognSet back = turned.smogn({.threshold = 0.3, .seed = 9});
  const auto sorted_rows = [](const SmognSet& set) {
    std::vector<std::array<double, 3>> rows;
    for (std::size_t i = 0; i < set.y.size(); ++i) {
      rows.push_back({set.x[2 * i], set.x[2 * i + 1], set.y[i]});
    }
    std::sort(rows.begin(), rows.end());
    return rows;
  };
  // All but the last bits of a standard deviation, which are sums in the order of the targets:
  // these are distinct, so they too are equal.
  EXPECT_EQ(sorted_rows(back), sorted_rows(one));
  EXPECT_NE(table.smogn({.threshold = 0.3, .seed = 10}).y, one.y);
}

TEST(Smogn, RejectsBadValues) {
  Table table = made_up(10, 2, 1);
  table.x[7] = std::numeric_limits<float>::infinity();
  testing::expect_error(ExitCode::kBadData, {"row 3, column 1", "inf"}, [&] { table.smogn(); });
  testing::expect_error(ExitCode::kBadData, {"no targets"}, [] { smogn({}, 1, {}, {}, {}); });
}

}  // namespace
}  // namespace onpa::data
