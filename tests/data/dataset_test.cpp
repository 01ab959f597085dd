#include "data/dataset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/data/support.h"

namespace onpa::data {
namespace {

using testing::expect_error;
using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

DataSet small_set() {
  DataSet data;
  data.feature_names = {"energy", "tempo, bpm"};
  data.audio_root = "/music";
  data.card = R"({"source": "a.csv", "rows": 2})";
  data.tracks = {
      {.id = "a\"1",
       .audio = "x/a,1.mp3",
       .genre = "rock;pop",
       .group = "Doe; \"Roe\"",
       .popularity = 37.25,
       .target = -0.1275f,
       .features = {0.1f, std::numeric_limits<float>::denorm_min()},
       .split = Split::kTrain},
      {.id = "b",
       .audio = "",
       .genre = "",
       .popularity = 100,
       .target = 0.5f,
       .features = {-3.4e38f, 1.0f / 3},
       .split = Split::kTrain,
       .kept = false},
      {.id = "c", .popularity = 0, .target = -0.5f, .features = {1, 2}, .split = Split::kTest}};
  return data;
}

TEST(DataSet, ComesBackAsSaved) {
  const TempFolder folder;
  const DataSet data = small_set();
  data.save(folder / "new/data");
  const DataSet got = DataSet::load(folder / "new/data");
  EXPECT_EQ(got.feature_names, data.feature_names);
  EXPECT_EQ(got.audio_root, "/music");
  EXPECT_NE(got.card.find("\"source\": \"a.csv\""), std::string::npos);
  EXPECT_EQ(got.hash.size(), 16u);
  ASSERT_EQ(got.tracks.size(), data.tracks.size());
  for (std::size_t i = 0; i < got.tracks.size(); ++i) {
    const Track &g = got.tracks[i], &w = data.tracks[i];
    EXPECT_EQ(g.id, w.id);
    EXPECT_EQ(g.audio, w.audio);
    EXPECT_EQ(g.genre, w.genre);
    EXPECT_EQ(g.group, w.group);
    EXPECT_EQ(g.popularity, w.popularity);
    EXPECT_EQ(g.target, w.target);
    EXPECT_EQ(g.features, w.features);
    EXPECT_EQ(g.split, w.split);
    EXPECT_EQ(g.kept, w.kept);
  }
}

TEST(DataSet, OldSetsHaveNoGroups) {
  const TempFolder folder;
  write_bytes(folder / "card.json", R"({"audio_root": "", "feature_names": ["energy"]})");
  write_bytes(folder / "tracks.csv",
              "id,audio,genre,popularity,split,kept,energy\na,a.mp3,rock,50,train,1,0.5\n");
  const DataSet old = DataSet::load(folder.path());
  ASSERT_EQ(old.tracks.size(), 1u);
  EXPECT_EQ(old.tracks[0].group, "");
  EXPECT_EQ(old.tracks[0].group_key(), "a");
  EXPECT_EQ(old.tracks[0].features, std::vector<float>{0.5f});
}

TEST(DataSet, CardTellsTheHashOfTheTracks) {
  const TempFolder folder;
  small_set().save(folder.path());
  const DataSet got = DataSet::load(folder.path());
  EXPECT_NE(got.card.find("\"tracks_xxh3\": \"" + got.hash + "\""), std::string::npos) << got.card;
}

TEST(DataSet, SavingALoadedSetChangesNothing) {
  const TempFolder folder;
  small_set().save(folder / "one");
  DataSet::load(folder / "one").save(folder / "two");
  EXPECT_EQ(read_bytes(folder / "one/tracks.csv"), read_bytes(folder / "two/tracks.csv"));
  EXPECT_EQ(read_bytes(folder / "one/card.json"), read_bytes(folder / "two/card.json"));
  EXPECT_EQ(DataSet::load(folder / "one").hash, DataSet::load(folder / "two").hash);
}

TEST(DataSet, LeavesNoTemporaryFiles) {
  const TempFolder folder;
  small_set().save(folder.path());
  small_set().save(folder.path());
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos);
    ++files;
  }
  EXPECT_EQ(files, 2);
}

TEST(DataSet, AudioInsideTheFolderMovesWithIt) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "here/clips");
  DataSet data = small_set();
  data.audio_root = folder / "here/clips";
  data.save(folder / "here");
  std::filesystem::rename(folder / "here", folder / "there");
  EXPECT_EQ(DataSet::load(folder / "there").audio_root, folder / "there/clips");
}

TEST(DataSet, IndicesLeaveOutRemovedTrainTracks) {
  const DataSet data = small_set();
  EXPECT_EQ(data.indices(Split::kTrain), std::vector<std::int64_t>{0});
  EXPECT_EQ(data.indices(Split::kTest), std::vector<std::int64_t>{2});
}

TEST(DataSet, GenresAreTheTrimmedParts) {
  const auto genres = [](const char* text) { return Track{.genre = text}.genres(); };
  EXPECT_EQ(genres("rock"), std::vector<std::string>{"rock"});
  EXPECT_EQ(genres(" hip hop ; rock;;hip hop;"), (std::vector<std::string>{"hip hop", "rock"}));
  EXPECT_TRUE(genres("").empty());
  EXPECT_TRUE(genres(" ; ").empty());
}

TEST(DataSet, MissingFilesAreNamed) {
  const TempFolder folder;
  expect_error(ExitCode::kInputMissing, {"card.json"}, [&] { DataSet::load(folder / "none"); });
  small_set().save(folder.path());
  std::filesystem::remove(folder / "tracks.csv");
  expect_error(ExitCode::kInputMissing, {"tracks.csv"}, [&] { DataSet::load(folder.path()); });
}

TEST(DataSet, BadCellsAreNamed) {
  const std::string head = "id,audio,genre,popularity,split,kept,energy\n";
  const std::string good = "a,a.mp3,rock,50,train,1,0.5\n";
  struct Case {
    const char* row;
    std::vector<std::string> parts;
  };
  const std::vector<Case> cases = {
      {"b,b.mp3,rock,50,train,1,nan\n", {":3", "column energy", "got \"nan\"", "finite number"}},
      {"b,b.mp3,rock,50,train,1,inf\n", {":3", "column energy", "got \"inf\""}},
      {"b,b.mp3,rock,50,train,1,loud\n", {":3", "column energy", "got \"loud\""}},
      {"b,b.mp3,rock,50,train,1,\n", {":3", "column energy", "got \"\""}},
      {"b,b.mp3,rock,50,train,1,1e39\n", {":3", "column energy", "got \"1e39\""}},
      {"b,b.mp3,rock,101,train,1,1\n", {":3", "column popularity", "got \"101\"", "0 to 100"}},
      {"b,b.mp3,rock,-1,train,1,1\n", {":3", "column popularity", "got \"-1\""}},
      {"b,b.mp3,rock,x,train,1,1\n", {":3", "column popularity", "got \"x\""}},
      {"b,b.mp3,rock,50,valid,1,1\n", {":3", "column split", "\"valid\"", "\"train\" or \"test\""}},
      {"b,b.mp3,rock,50,train,yes,1\n", {":3", "column kept", "\"yes\"", "\"1\" or \"0\""}},
      {",b.mp3,rock,50,train,1,1\n", {":3", "column id", "a track id"}},
      {"a,b.mp3,rock,50,train,1,1\n", {":3", "column id", "got \"a\"", "line 2"}},
      {"b,/etc/passwd,rock,50,train,1,1\n", {":3", "column audio", "/etc/passwd"}},
      {"b,x/../../y,rock,50,train,1,1\n", {":3", "column audio", "x/../../y"}},
      {"b,b.mp3,rock,50,train,1\n", {":3", "6 cells", "want 7"}}};
  const TempFolder folder;
  write_bytes(folder / "card.json", R"({"audio_root": "", "feature_names": ["energy"]})");
  write_bytes(folder / "tracks.csv", head + good);
  EXPECT_EQ(DataSet::load(folder.path()).tracks.size(), 1u);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.row);
    write_bytes(folder / "tracks.csv", head + good + c.row);
    std::vector<std::string> parts = c.parts;
    parts.emplace_back("tracks.csv");
    expect_error(ExitCode::kBadData, parts, [&] { DataSet::load(folder.path()); });
  }
}

TEST(DataSet, MissingColumnsAreNamed) {
  const TempFolder folder;
  write_bytes(folder / "card.json", R"({"audio_root": "", "feature_names": ["energy", "tempo"]})");
  write_bytes(folder / "tracks.csv", "id,audio,genre,popularity,split,kept,energy\n");
  expect_error(ExitCode::kBadData, {"tracks.csv:1", "no column \"tempo\"", "energy"},
               [&] { DataSet::load(folder.path()); });
  write_bytes(folder / "tracks.csv", "id,audio,genre,split,kept,energy,tempo\n");
  expect_error(ExitCode::kBadData, {"tracks.csv:1", "no column \"popularity\""},
               [&] { DataSet::load(folder.path()); });
}

TEST(DataSet, BadCardsAreNamed) {
  const TempFolder folder;
  small_set().save(folder.path());
  for (const char* card : {"", "{", "[1]", "{}", R"({"audio_root": 5, "feature_names": []})",
                           R"({"audio_root": "", "feature_names": [1]})"}) {
    SCOPED_TRACE(card);
    write_bytes(folder / "card.json", card);
    expect_error(ExitCode::kBadData, {"card.json"}, [&] { DataSet::load(folder.path()); });
  }
}

TEST(DataSet, RefusesToSaveWhatItWouldNotLoad) {
  const TempFolder folder;
  const auto expect_refused = [&](const char* part, const auto& spoil) {
    DataSet data = small_set();
    spoil(data);
    expect_error(ExitCode::kBadData, {part}, [&] { data.save(folder / "data"); });
    EXPECT_FALSE(std::filesystem::exists(folder / "data"));
  };
  expect_refused("its id twice", [](DataSet& d) { d.tracks[1].id = d.tracks[0].id; });
  expect_refused("no id", [](DataSet& d) { d.tracks[1].id.clear(); });
  expect_refused("not finite", [](DataSet& d) { d.tracks[1].features[0] = std::nanf(""); });
  expect_refused("popularity", [](DataSet& d) { d.tracks[1].popularity = std::nan(""); });
  expect_refused("number of features", [](DataSet& d) { d.tracks[1].features.pop_back(); });
  expect_refused("audio path", [](DataSet& d) { d.tracks[1].audio = "../x.mp3"; });
  expect_refused("\"id\"", [](DataSet& d) { d.feature_names[0] = "id"; });
  expect_refused("\"group\"", [](DataSet& d) { d.feature_names[0] = "group"; });
}

TEST(DataSet, CannotCreateTheFolder) {
  const TempFolder folder;
  write_bytes(folder / "file", "");
  expect_error(ExitCode::kCannotCreate, {"file"}, [&] { small_set().save(folder / "file/data"); });
}

TEST(Scaler, FitsTheGivenRowsOnly) {
  DataSet data;
  data.feature_names = {"x", "constant"};
  for (const float x : {1.0f, 3.0f, 1000.0f}) data.tracks.push_back({.features = {x, 0.1f}});
  const std::vector<std::int64_t> rows = {0, 1};
  const Scaler scaler = Scaler::fit(data, rows);
  EXPECT_EQ(scaler.mean, (std::vector<float>{2, 0.1f}));
  EXPECT_EQ(scaler.std, (std::vector<float>{1, 1}));
  std::vector<float> scaled(2);
  scaler.apply(data.tracks[2].features, scaled);
  EXPECT_EQ(scaled, (std::vector<float>{998, 0}));
}

TEST(Scaler, ConstantColumnsStayZero) {
  DataSet data;
  data.feature_names = {"x"};
  std::vector<std::int64_t> rows;
  for (int i = 0; i < 1009; ++i) {
    data.tracks.push_back({.features = {0.1f}});
    rows.push_back(i);
  }
  EXPECT_EQ(Scaler::fit(data, rows).std, std::vector<float>{1});
}

TEST(Scaler, ChecksItsInput) {
  DataSet data;
  data.feature_names = {"x"};
  expect_error(ExitCode::kBadData, {"no rows"}, [&] { Scaler::fit(data, {}); });
  const Scaler scaler{.mean = {0}, .std = {1}};
  std::vector<float> two(2);
  expect_error(ExitCode::kInternal, {"want 1"}, [&] { scaler.apply(two, two); });
}

}  // namespace
}  // namespace onpa::data
