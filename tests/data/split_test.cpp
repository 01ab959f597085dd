#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/dataset.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

using testing::expect_error;

std::vector<Track> tracks_of(int n) {
  std::vector<Track> tracks;
  for (int i = 0; i < n; ++i) tracks.push_back({.id = "track" + std::to_string(i)});
  return tracks;
}

std::set<std::string> ids_of(const std::vector<Track>& tracks, Split split) {
  std::set<std::string> ids;
  for (const Track& track : tracks) {
    if (track.split == split) ids.insert(track.id);
  }
  return ids;
}

TEST(AssignSplit, HitsTheFraction) {
  auto tracks = tracks_of(20000);
  assign_split(tracks, 0.8, 1);
  // Five standard deviations of a binomial(20000, 0.8).
  EXPECT_NEAR(static_cast<double>(ids_of(tracks, Split::kTrain).size()), 16000, 283);
  assign_split(tracks, 1, 1);
  EXPECT_EQ(ids_of(tracks, Split::kTest).size(), 0u);
  assign_split(tracks, 0, 1);
  EXPECT_EQ(ids_of(tracks, Split::kTrain).size(), 0u);
}

TEST(AssignSplit, DependsOnIdAndSeedAlone) {
  auto tracks = tracks_of(500), reversed = tracks_of(1000);
  std::reverse(reversed.begin(), reversed.end());
  assign_split(tracks, 0.8, 7);
  assign_split(reversed, 0.8, 7);
  std::map<std::string, Split> splits;
  for (const Track& track : reversed) splits[track.id] = track.split;
  for (const Track& track : tracks) EXPECT_EQ(track.split, splits[track.id]) << track.id;
  auto other = tracks_of(500);
  assign_split(other, 0.8, 8);
  EXPECT_NE(ids_of(other, Split::kTest), ids_of(tracks, Split::kTest));
}

TEST(AssignSplit, KeepsGroupsTogether) {
  auto tracks = tracks_of(2000);
  for (std::size_t i = 0; i < tracks.size(); ++i) tracks[i].group = "g" + std::to_string(i % 400);
  assign_split(tracks, 0.8, 3);
  for (std::size_t i = 400; i < tracks.size(); ++i) {
    EXPECT_EQ(tracks[i].split, tracks[i % 400].split) << tracks[i].id;
  }
  // 400 groups: 4.5 standard deviations of the binomial split, five tracks each.
  EXPECT_NEAR(static_cast<double>(ids_of(tracks, Split::kTrain).size()), 1600, 180);
  // The key decides, whether it is a group or an id.
  std::vector<Track> named;
  for (int i = 0; i < 400; ++i) named.push_back({.id = "g" + std::to_string(i)});
  assign_split(named, 0.8, 3);
  for (std::size_t i = 0; i < named.size(); ++i) EXPECT_EQ(named[i].split, tracks[i].split);
}

TEST(AssignSplit, GrowingTheFractionOnlyAddsToTrain) {
  auto small = tracks_of(500), large = tracks_of(500);
  assign_split(small, 0.5, 7);
  assign_split(large, 0.8, 7);
  const auto a = ids_of(small, Split::kTrain), b = ids_of(large, Split::kTrain);
  EXPECT_TRUE(std::includes(b.begin(), b.end(), a.begin(), a.end()));
}

std::vector<Track> tracks_in_groups(const std::vector<int>& sizes) {
  std::vector<Track> tracks;
  for (std::size_t g = 0; g < sizes.size(); ++g) {
    for (int i = 0; i < sizes[g]; ++i) {
      tracks.push_back({.id = std::to_string(tracks.size()), .group = "g" + std::to_string(g)});
    }
  }
  return tracks;
}

TEST(AssignGroupSplit, LargeGroupsAreInTrainAndTheShareStays) {
  std::vector<int> sizes(2001, 1);
  sizes[0] = 2000;
  double train = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    auto tracks = tracks_in_groups(sizes);
    const GroupSplit done = assign_group_split(tracks, 0.8, seed);
    EXPECT_EQ(done.groups, 2001);
    EXPECT_EQ(done.largest, 2000);
    EXPECT_EQ(done.kept_in_train, 1);
    for (int i = 0; i < 2000; ++i)
      EXPECT_EQ(tracks[static_cast<std::size_t>(i)].split, Split::kTrain);
    train += static_cast<double>(ids_of(tracks, Split::kTrain).size()) / 4000;
  }
  // 10,000 draws at 0.6, each half a track's share: five standard deviations.
  EXPECT_NEAR(train / 5, 0.8, 0.0123);
}

TEST(AssignGroupSplit, NoGroupIsOnBothSides) {
  auto tracks = tracks_in_groups(std::vector<int>(300, 7));
  EXPECT_EQ(assign_group_split(tracks, 0.8, 1).kept_in_train, 0);
  std::map<std::string, std::set<Split>> sides;
  for (const Track& track : tracks) sides[track.group].insert(track.split);
  for (const auto& [group, both] : sides) EXPECT_EQ(both.size(), 1u) << group;
  EXPECT_FALSE(ids_of(tracks, Split::kTest).empty());
}

TEST(AssignGroupSplit, RefusesWhatCannotBeParted) {
  auto tracks = tracks_in_groups({90, 5, 5});
  expect_error(ExitCode::kBadData, {"1 groups hold 90 of 100", "0.8"},
               [&] { assign_group_split(tracks, 0.8, 1); });
}

TEST(AssignSplit, ChecksTheFraction) {
  auto tracks = tracks_of(1);
  expect_error(ExitCode::kInternal, {"1.5"}, [&] { assign_split(tracks, 1.5, 0); });
}

// Train counts 1, 2, 4, 8, 16 in bins of width 5 from popularity 0 on, and 30 test tracks.
std::vector<Track> skewed() {
  std::vector<Track> tracks;
  for (int bin = 0; bin < 5; ++bin) {
    for (int i = 0; i < 1 << bin; ++i) {
      tracks.push_back(
          {.id = std::to_string(bin) + "/" + std::to_string(i), .popularity = 5.0 * bin + i % 5});
    }
  }
  for (int i = 0; i < 30; ++i) {
    tracks.push_back({.id = "test" + std::to_string(i), .popularity = 2, .split = Split::kTest});
  }
  return tracks;
}

std::vector<int> kept_per_bin(const std::vector<Track>& tracks, double width = 5) {
  std::vector<int> kept(5);
  for (const Track& track : tracks) {
    if (track.split == Split::kTest) {
      EXPECT_TRUE(track.kept) << track.id;
    } else if (track.kept) {
      ++kept[static_cast<std::size_t>(track.popularity / width)];
    }
  }
  return kept;
}

TEST(Undersample, CapsEveryBin) {
  const std::vector<std::pair<std::string, std::vector<int>>> cases = {
      {"none", {1, 2, 4, 8, 16}}, {"min", {1, 1, 1, 1, 1}},   {"median", {1, 2, 4, 4, 4}},
      {"q0", {1, 1, 1, 1, 1}},    {"q0.25", {1, 2, 2, 2, 2}}, {"q0.6", {1, 2, 4, 5, 5}},
      {"q1", {1, 2, 4, 8, 16}},   {"3", {1, 2, 3, 3, 3}},     {"200", {1, 2, 4, 8, 16}}};
  for (const auto& [rule, want] : cases) {
    SCOPED_TRACE(rule);
    auto tracks = skewed();
    undersample(tracks, parse_undersample(rule), 3);
    EXPECT_EQ(kept_per_bin(tracks), want);
  }
}

TEST(Undersample, StartsFromAllTracks) {
  auto tracks = skewed();
  undersample(tracks, parse_undersample("min"), 3);
  undersample(tracks, parse_undersample("none"), 3);
  EXPECT_EQ(kept_per_bin(tracks), (std::vector<int>{1, 2, 4, 8, 16}));
}

TEST(Undersample, UsesTheBinWidth) {
  auto tracks = skewed();
  UndersampleRule rule = parse_undersample("6");
  rule.bin_width = 10;
  undersample(tracks, rule, 3);
  EXPECT_EQ(kept_per_bin(tracks, 10), (std::vector<int>{3, 6, 6, 0, 0}));
}

TEST(Undersample, PopularityHundredIsInTheLastBin) {
  std::vector<Track> tracks;
  for (int i = 0; i < 4; ++i) {
    tracks.push_back({.id = std::to_string(i), .popularity = 97.0 + i});
  }
  undersample(tracks, parse_undersample("2"), 0);
  EXPECT_EQ(std::count_if(tracks.begin(), tracks.end(), [](const Track& t) { return t.kept; }), 2);
}

std::set<std::string> kept_ids(std::vector<Track> tracks, std::uint64_t seed) {
  undersample(tracks, parse_undersample("5"), seed);
  std::set<std::string> ids;
  for (const Track& track : tracks) {
    if (track.kept) ids.insert(track.id);
  }
  return ids;
}

TEST(Undersample, DependsOnTheSeedNotTheOrder) {
  auto reversed = skewed();
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(kept_ids(skewed(), 1), kept_ids(reversed, 1));
  EXPECT_NE(kept_ids(skewed(), 1), kept_ids(skewed(), 2));
}

TEST(Undersample, WithoutTrainTracksDoesNothing) {
  std::vector<Track> none;
  undersample(none, parse_undersample("min"), 0);
  EXPECT_TRUE(none.empty());
}

TEST(Undersample, ChecksPopularity) {
  std::vector<Track> tracks = {{.id = "loud", .popularity = 101}};
  expect_error(ExitCode::kBadData, {"\"loud\"", "101"},
               [&] { undersample(tracks, parse_undersample("min"), 0); });
}

TEST(ParseUndersample, RejectsOtherText) {
  for (const char* text : {"", "max", "q", "q1.5", "q-1", "qx", "0", "-3", "2.5", "10x", "nan"}) {
    SCOPED_TRACE(text);
    expect_error(ExitCode::kConfig, {"undersample"}, [&] { parse_undersample(text); });
  }
}

}  // namespace
}  // namespace onpa::data
