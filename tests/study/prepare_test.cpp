#include "apps/study/prepare.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Prepare : public ::testing::Test {
 protected:
  PrepareArgs args_for(const std::string& csv) {
    const fs::path file = folder_ / "in.csv";
    testing::write_bytes(file, csv);
    return {.csv = file, .audio = "", .out = folder_ / "data", .features = "energy,loudness"};
  }
  data::DataSet prepare(const std::string& csv) { return prepare_data(args_for(csv)); }

  // The message of the Error that `args` must raise, after a check of its code.
  static std::string error_of(const PrepareArgs& args, ExitCode code) {
    try {
      prepare_data(args);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  void touch(const std::string& name) { testing::write_bytes(folder_ / name, "x"); }

  testing::TempFolder folder_;
};

constexpr const char* kHeader = "id,genre,popularity,energy,loudness\n";

// `n` good rows with ids a0, a1, ...
std::string rows(int n, const std::string& prefix = "a") {
  std::string text;
  for (int i = 0; i < n; ++i) {
    text += prefix + std::to_string(i) + ",edm," + std::to_string(i % 101) + ",0.5,-7.25\n";
  }
  return text;
}

Json card_of(const data::DataSet& data) {
  return Json::parse(data.card);
}

// Every row read is dropped for one reason, joined to a track, or a track; every track is dropped
// for one reason, train or test.
void expect_counts_add_up(const data::DataSet& data) {
  const Json card = card_of(data);
  const auto sum = [](const Json& reasons) {
    std::int64_t n = 0;
    for (const auto& count : reasons) n += count.get<std::int64_t>();
    return n;
  };
  const Json& row = card["rows"];
  const Json& tracks = card["tracks"];
  const auto n = [](const Json& j) { return j.get<std::int64_t>(); };
  EXPECT_EQ(n(row["dropped"]), sum(row["dropped_by_reason"]));
  EXPECT_EQ(n(row["read"]), n(row["dropped"]) + n(row["joined"]) + n(tracks["distinct"]));
  EXPECT_EQ(n(tracks["distinct"]), sum(tracks["dropped_by_reason"]) + n(tracks["used"]));
  EXPECT_EQ(n(tracks["used"]), n(tracks["train"]) + n(tracks["test"]));
  EXPECT_EQ(n(tracks["used"]), std::ssize(data.tracks));
  const Json& histograms = card["popularity_histogram"];
  EXPECT_EQ(sum(histograms["train"]), n(tracks["train"]));
  EXPECT_EQ(sum(histograms["train_kept"]), n(tracks["train_kept"]));
  EXPECT_EQ(sum(histograms["test"]), n(tracks["test"]));
  EXPECT_EQ(n(tracks["train_kept"]), std::ssize(data.indices(data::Split::kTrain)));
}

TEST_F(Prepare, Presets) {
  EXPECT_EQ(feature_names("printed8").size(), 8u);
  const auto ten = feature_names("paper10");
  ASSERT_EQ(ten.size(), 10u);
  EXPECT_EQ(ten[8], "acousticness");
  EXPECT_EQ(ten[9], "speechiness");
  EXPECT_EQ(feature_names("key,tempo"), (std::vector<std::string>{"key", "tempo"}));
  for (const char* bad : {"", "a,,b", "a,a", "a,"}) {
    EXPECT_THROW(feature_names(bad), Error) << bad;
  }
}

TEST_F(Prepare, CellsAsTextAndNumbers) {
  const auto value = [](const char* column, const char* cell) {
    double v = -1;
    EXPECT_EQ(parse_feature(column, cell, v), CellProblem::kNone) << column << " " << cell;
    return v;
  };
  EXPECT_EQ(value("mode", "Major"), 1);
  EXPECT_EQ(value("mode", "minor"), 0);
  EXPECT_EQ(value("mode", "1"), 1);
  EXPECT_EQ(value("key", "C"), 0);
  EXPECT_EQ(value("key", "C#"), 1);
  EXPECT_EQ(value("key", "Bb"), 10);
  EXPECT_EQ(value("key", "Cb"), 11);
  EXPECT_EQ(value("key", "B"), 11);
  EXPECT_EQ(value("time_signature", "4/4"), 4);
  EXPECT_EQ(value("explicit", "True"), 1);
  EXPECT_EQ(value("energy", " 0.25 "), 0.25);
  double v = 0;
  EXPECT_EQ(parse_feature("energy", "", v), CellProblem::kMissing);
  EXPECT_EQ(parse_feature("energy", "NaN", v), CellProblem::kMissing);
  EXPECT_EQ(parse_feature("energy", "-inf", v), CellProblem::kNotFinite);
  EXPECT_EQ(parse_feature("energy", "Major", v), CellProblem::kNotANumber);
  EXPECT_EQ(parse_feature("energy", "C#", v), CellProblem::kNotANumber);
  EXPECT_EQ(parse_feature("key", "H", v), CellProblem::kNotANumber);
  EXPECT_EQ(parse_feature("energy", "0.5x", v), CellProblem::kNotANumber);
}

// Rows of each public layout, made up, with the header as published.
TEST_F(Prepare, LayoutWithGenreFirstAndTextKeyAndMode) {
  std::string csv =
      "\xEF\xBB\xBFgenre,artist_name,track_name,track_id,popularity,acousticness,danceability,"
      "duration_ms,energy,instrumentalness,key,liveness,loudness,mode,speechiness,tempo,"
      "time_signature,valence\r\n";
  for (int i = 0; i < 20; ++i) {
    csv += "Movie,\"Doe, J\",\"A \"\"b\"\"\",id" + std::to_string(i) +
           ",10,0.6,0.3,99373,0.9,0,C#,0.3,-1.828,Major,0.05,166.9,4/4,0.8\r\n";
  }
  PrepareArgs args = args_for(csv);
  args.features = "paper10";
  const data::DataSet data = prepare_data(args);
  ASSERT_EQ(data.tracks.size(), 20u);
  EXPECT_EQ(data.tracks[0].features,
            (std::vector<float>{0.3f, 0.9f, 0, 0.3f, -1.828f, 1, 166.9f, 0.8f, 0.6f, 0.05f}));
  EXPECT_EQ(data.tracks[0].genre, "Movie");
  EXPECT_FLOAT_EQ(data.tracks[0].target, -0.4f);
  args.features = "key,time_signature";
  EXPECT_EQ(prepare_data(args).tracks[0].features, (std::vector<float>{1, 4}));
}

TEST_F(Prepare, LayoutWithEmptyFirstHeaderAndSeveralGenres) {
  std::string csv =
      ",track_id,artists,album_name,track_name,popularity,duration_ms,explicit,danceability,energy,"
      "key,loudness,mode,speechiness,acousticness,instrumentalness,liveness,valence,tempo,"
      "time_signature,track_genre\n";
  int line = 0;
  for (const char* genre : {"acoustic", "folk"}) {
    for (int i = 0; i < 20; ++i) {
      csv += std::to_string(line++) + ",id" + std::to_string(i) +
             ",A;B,\"x\ny\",t,73,230666,False,0.676,0.461,1,-6.746,0,0.143,0.0322,1.01e-06,0.358,"
             "0.715,87.917,4," +
             genre + "\n";
    }
  }
  csv += "40,,,,,0,0,False,0.5,0.5,1,-6,0,0.1,0.1,0.1,0.1,0.1,80,4,k-pop\n";
  PrepareArgs args = args_for(csv);
  args.features = "printed8";
  const data::DataSet data = prepare_data(args);
  ASSERT_EQ(data.tracks.size(), 20u);
  EXPECT_EQ(data.tracks[7].genre, "acoustic;folk");
  const Json card = card_of(data);
  EXPECT_EQ(card["rows"]["joined"], 20);
  EXPECT_EQ(card["rows"]["dropped_by_reason"]["id missing"], 1);
  EXPECT_EQ(card["genres"]["folk"], 20);
  expect_counts_add_up(data);
}

TEST_F(Prepare, LayoutWithYearAndGenre) {
  std::string csv =
      ",artist_name,track_name,track_id,popularity,year,genre,danceability,energy,key,loudness,"
      "mode,"
      "speechiness,acousticness,instrumentalness,liveness,valence,tempo,duration_ms,time_signature"
      "\n";
  for (int i = 0; i < 20; ++i) {
    csv += std::to_string(i) + ",Jason,I,id" + std::to_string(i) +
           ",68,2012,acoustic,0.483,0.303,4,-10.058,1,0.0429,0.694,0.0,0.115,0.139,133.406,240166,"
           "3\n";
  }
  PrepareArgs args = args_for(csv);
  args.features = "paper10";
  EXPECT_EQ(prepare_data(args).tracks.size(), 20u);
}

TEST_F(Prepare, LayoutsWithPrefixedNames) {
  std::string songs = "song_name,song_popularity,energy,loudness,audio_mode,audio_valence\n";
  std::string playlists = "track_id,track_name,track_popularity,playlist_genre,energy,loudness\n";
  for (int i = 0; i < 20; ++i) {
    songs += "s" + std::to_string(i) + ",50,0.5,-5,1,0.25\n";
    playlists += "p" + std::to_string(i) + ",x,60,pop,0.5,-5\n";
  }
  songs += "s0,50,0.5,-5,1,0.25\n";
  PrepareArgs args = args_for(songs);
  args.features = "mode,valence";
  const data::DataSet data = prepare_data(args);
  EXPECT_EQ(data.tracks.size(), 20u);
  EXPECT_EQ(data.tracks[0].features, (std::vector<float>{1, 0.25f}));
  EXPECT_EQ(card_of(data)["rows"]["joined"], 1);
  EXPECT_EQ(prepare(playlists).tracks[0].genre, "pop");
  // Audio cannot be matched to ids that are made up.
  args = args_for(songs);
  args.audio = folder_.path();
  EXPECT_NE(error_of(args, ExitCode::kBadData).find("missing columns: id;"), std::string::npos);
}

TEST_F(Prepare, MissingColumnsAreAllNamed) {
  const std::string what =
      error_of(args_for("id,genre,energy,track_popularty\na,b,1,1\n"), ExitCode::kBadData);
  EXPECT_NE(what.find("missing columns: popularity (did you mean 'track_popularty'?), loudness; "
                      "found: id, genre, energy, track_popularty"),
            std::string::npos)
      << what;
}

TEST_F(Prepare, DirtyCellsDropTheRowAndAreCounted) {
  const data::DataSet data = prepare(kHeader + rows(20) +
                                     "b1,edm,50,,-7\n"
                                     "b2,edm,50,nan,-7\n"
                                     "b3,edm,50,0.5,inf\n"
                                     "b4,edm,50,loud,-7\n"
                                     "b5,edm,150,0.5,-7\n"
                                     "b6,edm,-1,0.5,-7\n"
                                     "b7,edm,,0.5,-7\n"
                                     ",edm,50,0.5,-7\n"
                                     "b8,edm,50,1e200,-7\n"
                                     "b9,edm,50,1e999,-7\n");
  EXPECT_EQ(data.tracks.size(), 20u);
  const Json reasons = card_of(data)["rows"]["dropped_by_reason"];
  EXPECT_EQ(reasons["energy missing"], 2);
  EXPECT_EQ(reasons["loudness not finite"], 1);
  EXPECT_EQ(reasons["energy not a number"], 2);  // text, and a number no double holds
  EXPECT_EQ(reasons["popularity out of range"], 2);
  EXPECT_EQ(reasons["popularity missing"], 1);
  EXPECT_EQ(reasons["id missing"], 1);
  EXPECT_EQ(reasons["energy not finite"], 1);  // too large for fp32
  expect_counts_add_up(data);
}

TEST_F(Prepare, FirstRowOfADuplicateCounts) {
  const data::DataSet data = prepare(kHeader + rows(20) +
                                     "a3,club,3,0.5,-7.25\n"
                                     "a3,edm,3,0.5,-7.25\n"
                                     "a4,rock,90,0.1,-1\n");
  EXPECT_EQ(data.tracks.size(), 20u);
  EXPECT_EQ(data.tracks[3].genre, "edm;club");
  EXPECT_EQ(data.tracks[4].popularity, 4);
  EXPECT_EQ(data.tracks[4].genre, "edm;rock");
  EXPECT_EQ(card_of(data)["rows"]["joined"], 3);
  EXPECT_EQ(card_of(data)["rows"]["joined_with_other_numbers"], 1);
  expect_counts_add_up(data);
}

TEST_F(Prepare, BomCrlfAndQuotes) {
  const data::DataSet data = prepare(
      "\xEF\xBB\xBFid,genre,popularity,energy,loudness\r\n\"x,1\",\"a \"\"q\"\"\",5,0.5,-3\r\n" +
      rows(20));
  EXPECT_EQ(data.tracks[0].id, "x,1");
  EXPECT_EQ(data.tracks[0].genre, "a \"q\"");
  EXPECT_EQ(data.tracks.size(), 21u);
}

TEST_F(Prepare, AudioIsMatchedByIdInATree) {
  touch("audio/deep/er/a0.mp3");
  touch("audio/a1.FLAC");
  touch("audio/a2.txt");
  touch("audio/z/a3.wav");
  touch("audio/b/a3.mp3");
  for (int i = 4; i < 30; ++i) touch("audio/a" + std::to_string(i) + ".mp3");
  PrepareArgs args = args_for(kHeader + rows(30));
  args.audio = folder_ / "audio";
  const data::DataSet data = prepare_data(args);
  ASSERT_EQ(data.tracks.size(), 29u);
  EXPECT_EQ(data.tracks[0].audio, "deep/er/a0.mp3");
  EXPECT_EQ(data.tracks[1].audio, "a1.FLAC");
  EXPECT_EQ(data.tracks[2].audio, "b/a3.mp3");
  EXPECT_EQ(card_of(data)["tracks"]["dropped_by_reason"]["no audio file"], 1);
  EXPECT_EQ(card_of(data)["tracks"]["ids_with_several_audio_files"], 1);
  expect_counts_add_up(data);
  args.audio = folder_ / "nowhere";
  error_of(args, ExitCode::kInputMissing);
}

TEST_F(Prepare, PopularityFilterSplitAndUndersampling) {
  PrepareArgs args = args_for(kHeader + rows(2020));
  args.min_popularity = 10;
  args.undersample = "8";
  const data::DataSet data = prepare_data(args);
  EXPECT_EQ(data.tracks.size(), 1820u);
  expect_counts_add_up(data);
  const Json card = card_of(data);
  EXPECT_EQ(card["tracks"]["dropped_by_reason"]["popularity below the minimum"], 200);
  // 1,820 tracks: 4.5 standard deviations of the binomial split.
  EXPECT_NEAR(card["tracks"]["train"].get<double>(), 0.8 * 1820, 77);
  for (const auto& n : card["popularity_histogram"]["train_kept"]) {
    EXPECT_LE(n.get<std::int64_t>(), 8);
  }
  EXPECT_GT(card["tracks"]["train"].get<int>(), card["tracks"]["train_kept"].get<int>());
}

TEST_F(Prepare, SameArgumentsGiveTheSameFiles) {
  const PrepareArgs args = args_for(kHeader + rows(50));
  const data::DataSet a = prepare_data(args), b = prepare_data(args);
  EXPECT_EQ(a.card, b.card);
  a.save(args.out);
  const data::DataSet read = data::DataSet::load(args.out);
  ASSERT_EQ(read.tracks.size(), 50u);
  EXPECT_EQ(read.tracks[9].features, a.tracks[9].features);
  EXPECT_EQ(read.tracks[9].split, a.tracks[9].split);
  EXPECT_EQ(read.feature_names, a.feature_names);
}

TEST_F(Prepare, RefusesWhatCannotWork) {
  PrepareArgs args = args_for(kHeader + rows(20));
  args.train_fraction = 1;
  error_of(args, ExitCode::kConfig);
  args.train_fraction = 0.8;
  args.undersample = "much";
  error_of(args, ExitCode::kConfig);
  args.undersample = "none";
  args.min_popularity = 99;
  EXPECT_NE(error_of(args, ExitCode::kBadData).find("20 popularity below the minimum"),
            std::string::npos);
  args.csv = folder_ / "absent.csv";
  error_of(args, ExitCode::kInputMissing);
  PrepareArgs latin = args_for("id,genre,popularity,\xE9nergie\n" + rows(20));
  latin.features = "\xE9nergie";
  EXPECT_NE(error_of(latin, ExitCode::kConfig).find("is not UTF-8 text"), std::string::npos);
  error_of(args_for(kHeader), ExitCode::kBadData);
  error_of(args_for(kHeader + rows(1)), ExitCode::kBadData);
}

}  // namespace
}  // namespace onpa::apps
