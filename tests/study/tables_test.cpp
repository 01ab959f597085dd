#include "apps/study/tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

// Four train tracks on a line, four test tracks; the third test track has two genres.
data::DataSet small_data() {
  data::DataSet data;
  data.feature_names = {"energy"};
  const auto add = [&](const std::string& genre, float feature, float target, bool train) {
    data::Track track;
    track.id = "t" + std::to_string(data.tracks.size());
    track.genre = genre;
    track.features = {feature};
    track.target = target;
    track.popularity = 100 * (target + 0.5);
    track.split = train ? data::Split::kTrain : data::Split::kTest;
    data.tracks.push_back(track);
  };
  for (const float f : {0.0f, 0.1f, 0.2f, 0.3f}) add("edm", f, f, true);
  add("edm", 0.0f, 0.0f, false);
  add("edm", 0.1f, 0.1f, false);
  add("club;edm", 0.2f, 0.2f, false);
  add("a|b", 0.3f, 0.3f, false);
  return data;
}

ModelResult result(const data::DataSet& data, const std::string& model, double hours,
                   const std::vector<float>& errors) {
  ModelResult out{.model = model, .hours_per_epoch = hours, .predictions = {}};
  for (std::size_t i = 0; i < errors.size(); ++i) {
    const auto row = static_cast<std::int64_t>(4 + i);
    const float target = data.tracks[4 + i].target;
    out.predictions.push_back({.row = row, .target = target, .prediction = target + errors[i]});
  }
  return out;
}

TEST(Table1, ModelsThenBaselines) {
  const data::DataSet data = small_data();
  const Table1 table = make_table1(data,
                                   {result(data, "passt", 2, {0.1f, -0.1f, 0.1f, -0.1f}),
                                    result(data, "dense", 0.5, {0.2f, 0.2f, 0.2f, 0.2f})},
                                   {0.08, 0.1});
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.train_tracks, 4);
  EXPECT_EQ(table.test_tracks, 4);
  EXPECT_EQ(table.rows[0].model, "passt");
  EXPECT_NEAR(table.rows[0].metrics.rmse, 0.1, 1e-7);
  EXPECT_NEAR(table.rows[1].metrics.mae, 0.2, 1e-7);
  EXPECT_EQ(table.rows[2].model, "constant mean");
  EXPECT_NEAR(table.rows[2].metrics.mae, 0.1, 1e-7);
  EXPECT_TRUE(std::isnan(table.rows[2].hours_per_epoch));
  EXPECT_EQ(table.rows[3].model, "linear");
  EXPECT_NEAR(table.rows[3].metrics.rmse, 0, 1e-6);

  const auto json = nlohmann::json::parse(table_json(table));
  EXPECT_EQ(json["rows"].size(), 4u);
  EXPECT_DOUBLE_EQ(json["rows"][0]["hours_per_epoch"].get<double>(), 2);
  EXPECT_DOUBLE_EQ(json["rows"][0]["floor_rmse"].get<double>(), 0.08);
  EXPECT_TRUE(json["rows"][2]["hours_per_epoch"].is_null());
  for (const char* key : {"model", "rmse", "mae", "r2"}) EXPECT_TRUE(json["rows"][3].contains(key));
}

TEST(Table1, BaselinesIgnoreTracksThatUndersamplingRemoved) {
  data::DataSet data = small_data();
  data.tracks[3].kept = false;  // train targets 0, 0.1, 0.2: mean 0.1
  const Table1 table = make_table1(data, {result(data, "dense", 1, {0, 0, 0, 0})});
  EXPECT_EQ(table.train_tracks, 3);
  EXPECT_NEAR(table.rows[1].metrics.mae, (0.1 + 0 + 0.1 + 0.2) / 4, 1e-7);
}

TEST(Table1, OnlyTracksThatEveryModelPredicted) {
  const data::DataSet data = small_data();
  ModelResult passt = result(data, "passt", 1, {0.1f, 0.1f, 0.1f, 0.4f});
  passt.predictions.pop_back();
  const Table1 table = make_table1(data, {passt, result(data, "dense", 1, {0, 0, 0, 0.5f})});
  EXPECT_EQ(table.test_tracks, 3);
  EXPECT_NEAR(table.rows[1].metrics.rmse, 0, 1e-7);
}

TEST(Table1, RefusesWhatCannotBeCompared) {
  const data::DataSet data = small_data();
  EXPECT_THROW(make_table1(data, {}), Error);
  EXPECT_THROW(make_table1(data, {result(data, "passt", 1, {})}), Error);
  data::DataSet no_train = small_data();
  for (data::Track& track : no_train.tracks) track.split = data::Split::kTest;
  EXPECT_THROW(make_table1(no_train, {result(no_train, "passt", 1, {0, 0})}), Error);
  ModelResult outside = result(data, "passt", 1, {0});
  outside.predictions[0].row = 8;
  EXPECT_THROW(make_table1(data, {outside}), Error);
}

TEST(Table2, TrackCountsInEachOfItsGenresAndAllDataIsRanked) {
  const data::DataSet data = small_data();
  const Table2 table = make_table2(data, {result(data, "passt", 1, {0.1f, 0.2f, 0.3f, 0.0f}),
                                          result(data, "dense", 1, {0.3f, 0.0f, 0.0f, 0.1f})});
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.rows[0].genre, "all data");
  EXPECT_EQ(table.rows[0].n, 4);
  EXPECT_EQ(table.rows[1].genre, "a|b");
  EXPECT_EQ(table.rows[2].genre, "club");
  EXPECT_EQ(table.rows[2].n, 1);
  EXPECT_EQ(table.rows[3].genre, "edm");
  EXPECT_EQ(table.rows[3].n, 3);
  EXPECT_NEAR(table.rows[0].mae[0], 0.15, 1e-7);
  EXPECT_NEAR(table.rows[3].mae[0], 0.2, 1e-7);
  // passt: a|b 0 < all data 0.15 < edm 0.2 < club 0.3
  EXPECT_EQ(table.rows[0].rank[0], 2);
  EXPECT_EQ(table.rows[1].rank[0], 1);
  EXPECT_EQ(table.rows[2].rank[0], 4);
  EXPECT_EQ(table.rows[3].rank[0], 3);

  const auto json = nlohmann::json::parse(table_json(table));
  EXPECT_EQ(json["rows"][2]["genre"], "club");
  EXPECT_EQ(json["rows"][2]["n"], 1);
  EXPECT_EQ(json["rows"][2]["rank"]["passt"], 4);
  EXPECT_NEAR(json["rows"][2]["mae"]["dense"].get<double>(), 0, 1e-7);
}

TEST(Table2, LeavesSmallGroupsOut) {
  const data::DataSet data = small_data();
  const Table2 table = make_table2(data, {result(data, "passt", 1, {0, 0, 0, 0})}, 2);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[1].genre, "edm");
}

TEST(TableText, AlignsAndEscapes) {
  const data::DataSet data = small_data();
  const std::vector<ModelResult> results = {result(data, "passt", 2.35, {0.1f, 0, 0, 0})};
  const Table1 table1 = make_table1(data, results);
  std::istringstream text(table_text(table1));
  std::string line;
  std::getline(text, line);
  EXPECT_EQ(line, "Table 1: all data, 4 train and 4 test tracks");
  std::getline(text, line);
  EXPECT_EQ(
      line,
      "model            RMSE     MAE         MAE, 95 %  bin-balanced MAE     R2  hours/epoch");
  const std::size_t width = line.size();
  std::getline(text, line);
  EXPECT_TRUE(line.starts_with("passt          0.0500  0.0250  0.0000 to 0.0")) << line;
  EXPECT_TRUE(line.ends_with("            0.0250  0.800         2.35")) << line;
  EXPECT_EQ(line.size(), width);
  const Table2 table2 = make_table2(data, results);
  EXPECT_NE(table_markdown(table2).find("| a\\|b | 1 | 0.0000 | 0.0000 to 0.0000 | 1 |"),
            std::string::npos)
      << table_markdown(table2);
  EXPECT_NE(table_text(table2).find("trained on all data"), std::string::npos);
  EXPECT_TRUE(
      table_csv(table1).starts_with("model,n,rmse,mae,r2,hours_per_epoch,floor_rmse,mae_low,"
                                    "mae_high,balanced_rmse,balanced_mae\npasst,4,"))
      << table_csv(table1);
}

TEST(TableFiles, AreWrittenAndReadBack) {
  const testing::TempFolder folder;
  const data::DataSet data = small_data();
  const std::vector<ModelResult> results = {result(data, "passt", 1, {0.1f, 0, 0, 0})};
  write_results(folder.path(), data, results, make_table1(data, results),
                make_table2(data, results));
  for (const char* name :
       {"table1.json", "table1.csv", "table1.md", "table2.json", "table2.csv", "table2.md"}) {
    EXPECT_GT(std::filesystem::file_size(folder / name), 20u) << name;
  }
  std::ifstream file(folder / "predictions.csv");
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "model,id,genre,target,prediction,absolute_error");
  int rows = 0;
  while (std::getline(file, line)) ++rows;
  EXPECT_EQ(rows, 4);
}

}  // namespace
}  // namespace onpa::apps
