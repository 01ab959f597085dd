// Made-up tables in each public layout (tools/make_table.py), through `prepare`.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/study/prepare.h"
#include "data/table.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Layout {
  const char* name;
  const char* shown;  // in the card
  const char* id;     // header; "" for none
  const char* popularity;
  const char* genre;  // "" for none
};

void PrintTo(const Layout& layout, std::ostream* out) {
  *out << layout.name;
}

class Layouts : public ::testing::TestWithParam<Layout> {
 protected:
  static constexpr int kRows = 1500;

  void SetUp() override {
    csv_ = folder_ / "table.csv";
    const fs::path script = fs::path(ONPA_GOLDEN_DIR) / "../../tools/make_table.py";
    const std::string command = "python3 '" + script.string() + "' " + GetParam().name + " " +
                                std::to_string(kRows) + " > '" + csv_.string() + "'";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  data::DataSet prepare(const std::string& features) const {
    PrepareArgs args;
    args.csv = csv_.string();
    args.features = features;
    return prepare_data(args);
  }

  testing::TempFolder folder_;
  fs::path csv_;
};

TEST_P(Layouts, AreKnownByTheirHeaders) {
  const data::DataSet data = prepare("paper10");
  const Json card = Json::parse(data.card);
  EXPECT_EQ(card["version"], 2);
  EXPECT_EQ(card["layout"], GetParam().shown);
  const auto header = [&](const char* role) {
    return card["roles"].contains(role) ? card["roles"][role]["column"].get<std::string>() : "";
  };
  EXPECT_EQ(header("id"), GetParam().id);
  EXPECT_EQ(header("popularity"), GetParam().popularity);
  EXPECT_EQ(header("genre"), GetParam().genre);
  EXPECT_EQ(card["roles"]["popularity"]["alias_of"], "popularity");
  EXPECT_EQ(header("valence"),
            std::string(GetParam().name) == "song_data" ? "audio_valence" : "valence");
  EXPECT_EQ(card["ids"] == "from the table", GetParam().id[0] != '\0');
}

TEST_P(Layouts, EveryRowIsAccountedFor) {
  const data::DataSet data = prepare("paper10");
  const Json card = Json::parse(data.card);
  const auto n = [](const Json& count) { return count.get<int>(); };
  EXPECT_EQ(n(card["rows"]["read"]), kRows);
  EXPECT_EQ(n(card["rows"]["dropped"]), kRows / 500);
  EXPECT_EQ(n(card["rows"]["joined"]) + n(card["rows"]["dropped"]) + std::ssize(data.tracks),
            kRows);
  EXPECT_GT(n(card["rows"]["joined"]), kRows / 5);
  EXPECT_EQ(card["rows"]["joined_with_other_numbers"], 0);
  EXPECT_GT(n(card["tracks"]["test"]), 0);
  std::set<std::string> ids;
  for (const data::Track& track : data.tracks) ids.insert(track.id);
  EXPECT_EQ(ids.size(), data.tracks.size());
  EXPECT_EQ(card["genres"].size(), GetParam().genre[0] == '\0' ? 0u : 20u);
}

// The first row, read as plain text, is the first track.
TEST_P(Layouts, CellsGoWhereTheyBelong) {
  const data::DataSet data = prepare("printed8");
  const data::Table table = data::Table::read_csv(csv_);
  const data::Track& track = data.tracks[0];
  const auto cell = [&](const std::string& header) {
    const int column = table.find(header);
    EXPECT_GE(column, 0) << header;
    return std::string(table.cell(0, column));
  };
  const auto number = [&](const std::string& header) {
    double value = -1;
    EXPECT_TRUE(data::parse_number(cell(header), value)) << header;
    return value;
  };
  if (GetParam().id[0] != '\0') {
    EXPECT_EQ(track.id, cell(GetParam().id));
  }
  if (GetParam().genre[0] != '\0') {
    EXPECT_EQ(track.genres().at(0), cell(GetParam().genre));
  }
  EXPECT_EQ(track.popularity, number(GetParam().popularity));
  const std::string name = GetParam().name;
  const std::string mode = cell(name == "song_data" ? "audio_mode" : "mode");
  const std::vector<float> want = {
      static_cast<float>(number("danceability")),
      static_cast<float>(number("energy")),
      static_cast<float>(number("instrumentalness")),
      static_cast<float>(number("liveness")),
      static_cast<float>(number("loudness")),
      mode == "1" || mode == "Major" ? 1.0f : 0.0f,
      static_cast<float>(number("tempo")),
      static_cast<float>(number(name == "song_data" ? "audio_valence" : "valence"))};
  EXPECT_EQ(track.features, want);
}

TEST_P(Layouts, ChosenFeaturesMayBeAnyNumber) {
  const std::string name = GetParam().name;
  const data::DataSet data =
      prepare(name == "spotify_songs" ? "key,duration_ms" : "key,duration_ms,time_signature");
  for (const data::Track& track : data.tracks) {
    EXPECT_TRUE(track.features[0] >= 0 && track.features[0] <= 11) << track.features[0];
    EXPECT_GE(track.features[1], 60000);
    const float meter = track.features.size() == 3 ? track.features[2] : 4;
    EXPECT_TRUE(meter == 3 || meter == 4) << meter;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Public, Layouts,
    ::testing::Values(
        Layout{"SpotifyFeatures", "SpotifyFeatures (232,725-row table)", "track_id", "popularity",
               "genre"},
        Layout{"dataset", "dataset (114,000-row table)", "track_id", "popularity", "track_genre"},
        Layout{"spotify_data", "spotify_data (1,159,764-row table)", "track_id", "popularity",
               "genre"},
        Layout{"tracks", "tracks by release date, without genres", "id", "popularity", ""},
        Layout{"song_data", "song_data (prefixed names, without ids)", "", "song_popularity", ""},
        Layout{"spotify_songs", "spotify_songs (32,833-row table)", "track_id", "track_popularity",
               "playlist_genre"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace onpa::apps
