// What `prepare` lets its user choose: columns, splits, filters, undersampling.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/study/prepare.h"
#include "apps/study/prepare_parts.h"
#include "kernels/error.h"
#include "tests/apps/run_command.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::json;
using Strings = std::vector<std::string>;

class PrepareChoices : public ::testing::Test {
 protected:
  PrepareArgs args_for(const std::string& csv) {
    const std::filesystem::path file = folder_ / "in.csv";
    testing::write_bytes(file, csv);
    PrepareArgs args;
    args.csv = file.string();
    args.out = (folder_ / "data").string();
    args.features = "energy";
    return args;
  }

  static void expect_error(const PrepareArgs& args, ExitCode code, const Strings& parts) {
    try {
      prepare_data(args);
      ADD_FAILURE() << "no error, want " << parts.front();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
      }
    }
  }

  testing::TempFolder folder_;
};

Json card_of(const data::DataSet& data) {
  return Json::parse(data.card);
}

// `n` tracks with ids t0, t1, ..., and cells after popularity and energy as `more` says.
template <class More>
std::string table(const std::string& header, int n, const More& more) {
  std::string text = "id,popularity,energy" + header + "\n";
  for (int i = 0; i < n; ++i) {
    text += "t" + std::to_string(i) + "," + std::to_string(i % 101) + ",0.5" + more(i) + "\n";
  }
  return text;
}
std::string no_more(int /*i*/) {
  return "";
}

TEST_F(PrepareChoices, TwoColumnsForOneRole) {
  const std::string csv = table(",Song Popularity", 30, [](int) { return ",7"; });
  PrepareArgs args = args_for(csv);
  expect_error(args, ExitCode::kBadData,
               {"\"popularity\" and \"Song Popularity\" both claim to be popularity",
                "--column popularity=HEADER"});
  args.columns = {"popularity=Song Popularity"};
  EXPECT_EQ(prepare_data(args).tracks[3].popularity, 7);
  EXPECT_EQ(card_of(prepare_data(args))["roles"]["popularity"]["column"], "Song Popularity");
  args.columns = {"popularity=popularity"};
  EXPECT_EQ(prepare_data(args).tracks[3].popularity, 3);
}

TEST_F(PrepareChoices, ColumnsCalledOtherwise) {
  PrepareArgs args = args_for("key,plays,power\n" + [] {
    std::string rows;
    for (int i = 0; i < 30; ++i) rows += "k" + std::to_string(i) + ",50,0.25\n";
    return rows;
  }());
  args.columns = {"id=key", "popularity=plays", "energy=power"};
  const data::DataSet data = prepare_data(args);
  EXPECT_EQ(data.tracks[0].id, "k0");
  EXPECT_EQ(data.tracks[0].features[0], 0.25f);
  args.columns = {"id=key", "popularity=plays", "energy=pover"};
  expect_error(args, ExitCode::kBadData,
               {"no column \"pover\" for energy (did you mean 'power'?)"});
  args.columns = {"id=key", "popularity=plays", "energi=power"};
  expect_error(args, ExitCode::kBadData, {"missing columns: energy"});
  args.columns = {"id=key", "popularity=plays", "energy=power", "energi=power"};
  expect_error(args, ExitCode::kConfig, {"role \"energi\" (did you mean 'energy'?)"});
  args.columns = {"id=key", "popularity=plays", "energy=plays"};
  expect_error(args, ExitCode::kBadData, {"\"plays\" is both popularity and energy"});
  for (const char* bad : {"energy", "=power", "energy="}) {
    args.columns = {bad};
    expect_error(args, ExitCode::kConfig, {"want ROLE=HEADER"});
  }
}

TEST_F(PrepareChoices, ThePopularityIsNoFeature) {
  PrepareArgs args = args_for(table("", 30, no_more));
  args.features = "energy,popularity";
  expect_error(args, ExitCode::kConfig, {"popularity is what the models are to predict"});
  args = args_for(table(",track_popularity", 30, [](int) { return ",7"; }));
  args.features = "track_popularity";
  args.columns = {"popularity=track_popularity"};
  expect_error(args, ExitCode::kBadData,
               {"\"track_popularity\" is both popularity and track_popularity"});
}

TEST_F(PrepareChoices, RangesOfTheService) {
  const auto check = [](const char* column, std::vector<double> good, std::vector<double> bad) {
    for (const double x : good) EXPECT_TRUE(in_range(column, x)) << column << " " << x;
    for (const double x : bad) EXPECT_FALSE(in_range(column, x)) << column << " " << x;
  };
  check("energy", {0, 0.5, 1}, {-0.001, 1.001});
  check("valence", {0, 1}, {75});
  check("loudness", {-60, 0, 4.5}, {-1000, 60});
  check("tempo", {0, 250}, {-1, 5000});
  check("key", {-1, 0, 11}, {-2, 12, 0.5});
  check("mode", {0, 1}, {-1, 2, 0.5});
  check("popularity", {0, 100}, {-1, 101});
  check("my_own", {-1e30, 1e30}, {});
}

TEST_F(PrepareChoices, CellsOutOfRangeAreCountedByColumn) {
  std::string csv = "id,popularity,energy,mode\n";
  for (int i = 0; i < 30; ++i) csv += "t" + std::to_string(i) + ",50,0.5,1\n";
  csv += "a,50,1.5,1\nb,50,0.5,3\nc,50,-1,9\nd,101,2,1\n";
  PrepareArgs args = args_for(csv);
  args.features = "energy,mode";
  const Json card = card_of(prepare_data(args));
  EXPECT_EQ(card["out_of_range"], Json::parse(R"({"energy": 3, "mode": 2, "popularity": 1})"));
  // One reason a row: the first.
  EXPECT_EQ(card["rows"]["dropped_by_reason"],
            Json::parse(R"({"energy out of range": 2, "mode out of range": 1,
                            "popularity out of range": 1})"));
  EXPECT_EQ(card["tracks"]["used"], 30);
}

TEST(ListParts, TakesBothSpellings) {
  EXPECT_EQ(list_parts("A;B ; A;"), (Strings{"A", "B"}));
  EXPECT_EQ(list_parts("Tyler, The Creator"), (Strings{"Tyler, The Creator"}));
  EXPECT_EQ(list_parts("['A', \"B's\", 'C\\'d; e']"), (Strings{"A", "B's", "C'd; e"}));
  EXPECT_TRUE(list_parts("[]").empty());
  EXPECT_TRUE(list_parts(" ").empty());
}

std::map<std::string, std::set<data::Split>> sides_of_groups(const data::DataSet& data) {
  std::map<std::string, std::set<data::Split>> sides;
  for (const data::Track& track : data.tracks) sides[track.group_key()].insert(track.split);
  return sides;
}

TEST_F(PrepareChoices, ArtistsWhoRecordedTogetherStayTogether) {
  // Bands of three: a and b record together, b and c do; so one group, named by its first.
  PrepareArgs args = args_for(table(",artists", 600, [](int i) {
    const std::string band = std::to_string(i / 6);
    const Strings who = {"a" + band, "b" + band + ";a" + band, "c" + band + ";b" + band};
    return "," + who[static_cast<std::size_t>(i % 3)];
  }));
  args.split = "artist";
  const data::DataSet data = prepare_data(args);
  EXPECT_EQ(data.tracks[5].group, "a0");
  const auto sides = sides_of_groups(data);
  EXPECT_EQ(sides.size(), 100u);
  for (const auto& [group, both] : sides) EXPECT_EQ(both.size(), 1u) << group;
  const Json split = card_of(data)["split"];
  EXPECT_EQ(split["kind"], "artist");
  EXPECT_EQ(split["groups"], 100);
  EXPECT_EQ(split["largest_group_share"], 0.01);
  // 100 groups: 4.5 standard deviations of the binomial split.
  EXPECT_NEAR(card_of(data)["tracks"]["train"].get<double>(), 480, 108);

  args.split = "first-artist";
  const data::DataSet first = prepare_data(args);
  EXPECT_EQ(first.tracks[5].group, "c0");
  EXPECT_EQ(sides_of_groups(first).size(), 300u);
  EXPECT_EQ(card_of(first)["split"]["kind"], "first-artist");
}

TEST_F(PrepareChoices, ArtistsThatCannotBePartedHaveAWayOut) {
  PrepareArgs args = args_for(
      table(",artists", 60, [](int i) { return ",a" + std::to_string(i) + ";everybody"; }));
  args.split = "artist";
  expect_error(args, ExitCode::kBadData, {"in.csv", "1 groups hold 60 of 60", "first-artist"});
  args.split = "first-artist";
  EXPECT_EQ(prepare_data(args).tracks.size(), 60u);
}

TEST_F(PrepareChoices, TracksWithoutArtistAreGroupsOfTheirOwn) {
  PrepareArgs args = args_for(
      table(",artist_name", 60, [](int i) { return i % 2 == 0 ? "," : ",x" + std::to_string(i); }));
  args.split = "artist";
  const data::DataSet data = prepare_data(args);
  EXPECT_EQ(data.tracks[4].group, "");
  EXPECT_EQ(sides_of_groups(data).size(), 60u);
  args.csv = args_for(table("", 60, no_more)).csv;
  expect_error(args, ExitCode::kBadData, {"missing columns: artists"});
}

TEST_F(PrepareChoices, SplitThatTheTableGives) {
  const Strings words = {"train", "Training", "test", "TESTING"};
  PrepareArgs args = args_for(
      table(",part", 40, [&](int i) { return "," + words[static_cast<std::size_t>(i % 4)]; }) +
      "t1,1,0.5,test\nlate,1,0.5,\n");
  args.split = "column:part";
  const data::DataSet data = prepare_data(args);
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(data.tracks[i].split == data::Split::kTrain, i % 4 < 2) << i;
  }
  const Json card = card_of(data);
  EXPECT_EQ(card["split"]["kind"], "given");
  EXPECT_EQ(card["split"]["column"], "part");
  EXPECT_EQ(card["split"]["train_fraction"], 0.5);
  EXPECT_EQ(card["duplicates"]["in_both_splits"], 1);
  EXPECT_EQ(card["warnings"].size(), 1u);
  EXPECT_EQ(card["rows"]["dropped_by_reason"]["split missing"], 1);
  args.split = "column:prat";
  expect_error(args, ExitCode::kBadData, {"missing columns: prat (did you mean 'part'?)"});
  args = args_for(table(",part", 4, [](int i) { return i < 2 ? ",train" : ",1"; }));
  args.split = "column:part";
  expect_error(args, ExitCode::kBadData, {"in.csv:4: column part: got \"1\"", "want train"});
}

TEST_F(PrepareChoices, RowsAsTheyAre) {
  std::string csv = table("", 30, no_more);
  csv += csv.substr(csv.find('\n') + 1);
  for (int i = 0; i < 30; ++i) {
    testing::write_bytes(folder_ / ("audio/t" + std::to_string(i) + ".mp3"), "x");
  }
  PrepareArgs args = args_for(csv);
  args.split = "rows";
  args.audio = (folder_ / "audio").string();
  const data::DataSet data = prepare_data(args);
  ASSERT_EQ(data.tracks.size(), 60u);
  EXPECT_EQ(data.tracks[32].audio, "t2.mp3");
  EXPECT_EQ(data.tracks[32].id, "t2#33");
  int apart = 0;
  for (std::size_t i = 0; i < 30; ++i) apart += data.tracks[i].split != data.tracks[i + 30].split;
  EXPECT_GT(apart, 0);
  const Json card = card_of(data);
  EXPECT_EQ(card["duplicates"]["rows_repeated"], 30);
  EXPECT_EQ(card["rows"]["joined"], 0);
  ASSERT_EQ(card["warnings"].size(), 1u);
  EXPECT_NE(card["warnings"][0].get<std::string>().find("30 rows repeat a track"),
            std::string::npos);
  EXPECT_TRUE(card_of(prepare_data(args_for(csv)))["warnings"].empty());
}

TEST_F(PrepareChoices, OtherSplitsAreRefused) {
  PrepareArgs args = args_for(table("", 30, no_more));
  for (const char* bad : {"", "artists", "column:", "column", "train"}) {
    args.split = bad;
    expect_error(args, ExitCode::kConfig, {"split: got"});
  }
}

TEST_F(PrepareChoices, GenresBySizeAndName) {
  // big: 50 tracks, small: 10 of them and 5 others; the last has none.
  const std::string csv = table(",genre", 66, [](int i) {
    return i < 40 ? ",big" : i < 50 ? ",big;small" : i < 55 ? ",small" : i < 65 ? ",other" : ",";
  });
  PrepareArgs args = args_for(csv);
  args.min_genre = 15;
  data::DataSet data = prepare_data(args);
  EXPECT_EQ(card_of(data)["genres_used"], (Strings{"big", "small"}));
  EXPECT_EQ(card_of(data)["genres_dropped"], Json::parse(R"({"other": 10})"));
  EXPECT_EQ(card_of(data)["tracks"]["dropped_by_reason"]["of no genre that is large enough"], 11);
  EXPECT_EQ(data.tracks.size(), 55u);
  args.min_genre = 16;
  data = prepare_data(args);
  EXPECT_EQ(data.tracks.size(), 50u);
  EXPECT_EQ(data.tracks[45].genre, "big");
  args.min_genre = 0;
  args.genres = {"small", "other"};
  data = prepare_data(args);
  EXPECT_EQ(data.tracks.size(), 25u);
  EXPECT_EQ(data.tracks[0].genre, "small");
  args.genres = {"smal"};
  expect_error(args, ExitCode::kConfig, {"no track of \"smal\" (did you mean 'small'?)"});
  args.genres = {};
  args.min_genre = 1000;
  expect_error(args, ExitCode::kBadData,
               {"no track is left", "66 of no genre that is large enough"});
}

TEST_F(PrepareChoices, EveryUndersamplingRuleIsInTheCard) {
  // Popularity 0 to 9 once each, 0 to 4 three times more.
  std::string csv = "id,popularity,energy\n";
  for (int i = 0; i < 400; ++i) {
    csv += "t" + std::to_string(i) + "," + std::to_string(i < 100 ? i % 10 : i % 5) + ",0.5\n";
  }
  PrepareArgs args = args_for(csv);
  args.features = "energy";
  const auto kept = [&](const std::string& rule, double width) {
    args.undersample = rule;
    args.bin_width = width;
    const Json card = card_of(prepare_data(args));
    const Json& bins = card["popularity_histogram"];
    EXPECT_EQ(bins["bin_width"], width);
    EXPECT_EQ(card["undersampling"]["rule"], rule);
    const std::int64_t cap = card["undersampling"]["cap"].get<std::int64_t>();
    for (std::size_t b = 0; b < bins["train"].size(); ++b) {
      const auto before = bins["train"][b].get<std::int64_t>();
      EXPECT_EQ(bins["train_kept"][b].get<std::int64_t>(), std::min(before, cap)) << rule;
    }
    return bins["train_kept"];
  };
  const Json none = kept("none", 5);
  ASSERT_EQ(none.size(), 20u);
  EXPECT_EQ(kept("min", 5)[0], none[1]);
  EXPECT_EQ(kept("7", 5)[0], 7);
  EXPECT_EQ(kept("q1", 5), none);
  EXPECT_EQ(kept("median", 5)[0].get<int>(), (none[0].get<int>() + none[1].get<int>()) / 2);
  EXPECT_EQ(kept("min", 1).size(), 100u);
  EXPECT_EQ(kept("min", 10)[0], none[0].get<int>() + none[1].get<int>());
}

TEST_F(PrepareChoices, TheCommandSaysWhatItDid) {
  const std::string csv = "track_id,track_popularity,energy\n" + [] {
    std::string rows;
    for (int i = 0; i < 80; ++i) rows += "t" + std::to_string(i % 40) + ",50,0.5\n";
    return rows;
  }() + "bad,50,7\n";
  const PrepareArgs args = args_for(csv);
  for (int i = 0; i < 35; ++i) {
    testing::write_bytes(folder_ / ("audio/t" + std::to_string(i) + ".mp3"), "x");
  }
  testing::write_bytes(folder_ / "audio/other/t3.ogg", "x");
  testing::write_bytes(folder_ / "audio/stranger.mp3", "x");
  const testing::CommandResult result =
      testing::run_command({"prepare", "--csv", args.csv, "--audio", (folder_ / "audio").string(),
                            "--out", args.out, "--features", "energy", "--split", "rows"});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* part :
       {"layout: unknown", "columns: id = track_id, popularity = track_popularity, energy",
        "        81  rows read", "         1  rows dropped: energy out of range",
        "        10  tracks dropped: no audio file", "         1  ids with several audio files",
        "         1  audio files of no track", "        70  tracks used",
        "         1  cells out of range: energy", "split: rows", "warning: split by rows"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  const Json card = Json::parse(testing::read_bytes(folder_ / "data/card.json"));
  EXPECT_EQ(card["audio"]["matched"], 70);
  EXPECT_EQ(card["audio"]["missing"], 10);
  EXPECT_EQ(card["hashes"]["tracks_xxh3"], data::DataSet::load(folder_ / "data").hash);
}

TEST_F(PrepareChoices, MinMaxTargetsSpanTheTrainTracks) {
  std::string csv = "id,popularity,energy,part\n";
  for (int i = 0; i < 30; ++i) {
    const bool test = i % 3 == 0;
    // Tracks of the test split lie outside; one bin of the train split is cut.
    const int popularity = test ? i : 40 + i;
    csv += "t" + std::to_string(i) + "," + std::to_string(popularity) + ",0.5," +
           (test ? "test" : "train") + "\n";
  }
  PrepareArgs args = args_for(csv);
  args.split = "column:part";
  args.target = "minmax";
  prepare_data(args).save(args.out);
  const data::DataSet data = data::DataSet::load(args.out);
  EXPECT_EQ(data.target_map, (data::TargetMap{.low = 41, .high = 69}));
  for (const data::Track& track : data.tracks) {
    EXPECT_FLOAT_EQ(track.target, (track.popularity - 41) / 28 - 0.5) << track.id;
    EXPECT_NEAR(data.target_map.popularity(track.target), track.popularity, 1e-5);
  }
  EXPECT_EQ(card_of(data)["options"]["target"], "minmax");
  // The same tracks with other targets are other data.
  args.target = "fixed";
  prepare_data(args).save(args.out);
  const data::DataSet fixed = data::DataSet::load(args.out);
  EXPECT_EQ(fixed.target_map, data::TargetMap{});
  EXPECT_NE(fixed.hash, data.hash);
}

TEST_F(PrepareChoices, TargetsThatCannotBeMappedAreErrors) {
  PrepareArgs args = args_for("id,popularity,energy\na,7,0\nb,7,0\nc,7,0\nd,7,0\ne,7,0\nf,7,0\n");
  args.train_fraction = 0.5;
  args.target = "minmax";
  expect_error(args, ExitCode::kBadData, {"popularity 7", "--target minmax"});
  args.target = "log";
  expect_error(args, ExitCode::kConfig, {"\"log\"", "fixed or minmax"});
}

}  // namespace
}  // namespace onpa::apps
