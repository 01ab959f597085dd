#include "apps/study/demo.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/philox.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

using testing::read_bytes;

// A corpus without audio, and models that predict the true conditional means plus an error.
struct World {
  data::DataSet data;
  std::vector<ModelResult> results = {{.model = "passt", .hours_per_epoch = 1, .predictions = {}},
                                      {.model = "dense", .hours_per_epoch = 1, .predictions = {}}};
  Floors floors = analytic_floors();

  World(double passt_error, double passt_error_planted, double dense_error) {
    Philox rng({.seed = 9, .stream = kStreamTest});
    data.feature_names = {"energy", "loudness"};
    for (const CorpusTrack& t : draw_corpus({.tracks = 4000})) {
      const bool train = t.index % 5 != 0;
      data.tracks.push_back({.id = t.id,
                             .audio = "",
                             .genre = t.genre,
                             .popularity = static_cast<double>(t.popularity),
                             .target = static_cast<float>(t.popularity / 100.0 - 0.5),
                             .features = {static_cast<float>(t.features.energy),
                                          static_cast<float>(t.features.loudness)},
                             .split = train ? data::Split::kTrain : data::Split::kTest});
      if (train) continue;
      const float target = data.tracks.back().target;
      const double spread = t.genre == kPlantedGenre ? passt_error_planted : passt_error;
      const double passt = t.mean_given_audio + spread * rng.normal();
      const double dense = t.mean_given_features + dense_error * rng.normal();
      results[0].predictions.push_back({t.index, target, static_cast<float>(passt)});
      results[1].predictions.push_back({t.index, target, static_cast<float>(dense)});
    }
  }
  std::vector<DemoCheck> checks(const DemoBounds& bounds) const {
    return demo_checks(data, results, floors, bounds);
  }
};

std::vector<bool> holds(const std::vector<DemoCheck>& checks) {
  std::vector<bool> out;
  for (const DemoCheck& check : checks) out.push_back(check.holds);
  return out;
}

std::vector<bool> checked(const std::vector<DemoCheck>& checks) {
  std::vector<bool> out;
  for (const DemoCheck& check : checks) out.push_back(check.checked);
  return out;
}

TEST(DemoChecks, HoldForModelsNearTheirFloors) {
  const World near(0.02, 0.06, 0.01);
  const auto full = near.checks(demo_plan({.full = true}).bounds);
  EXPECT_EQ(holds(full), std::vector<bool>(5, true));
  EXPECT_EQ(checked(full), std::vector<bool>(5, true));
  // What too few test tracks cannot tell is not demanded of the small demo.
  EXPECT_EQ(checked(near.checks(demo_plan({}).bounds)), (std::vector<bool>{true, true, false}));
}

TEST(DemoChecks, FailWhereTheStatementIsFalse) {
  const DemoBounds bounds = demo_plan({.full = true}).bounds;
  // Dense far off its floor; passt above 0.090 but still ahead.
  EXPECT_EQ(holds(World(0.05, 0.02, 0.06).checks(bounds)),
            (std::vector<bool>{false, false, false, true, false}));
  // Audio worse everywhere.
  EXPECT_EQ(holds(World(0.2, 0.2, 0.0).checks(bounds)),
            (std::vector<bool>{true, false, false, false, true}));
}

TEST(DemoPlan, FullHasItsOwnFolder) {
  EXPECT_EQ(demo_plan({}).folder, "demo");
  EXPECT_EQ(demo_plan({.full = true}).folder, "demo-full");
  EXPECT_EQ(demo_plan({.full = true, .out = "x"}).folder, "x");
  EXPECT_GT(demo_plan({.full = true}).corpus.tracks, demo_plan({}).corpus.tracks);
}

// All stages at a size that trains nothing useful.
TEST(Demo, LeavesTheTablesAndFindsItsWorkDone) {
  const testing::TempFolder folder;
  DemoPlan plan = demo_plan({.out = folder.path().string()});
  plan.corpus.tracks = 60;
  plan.bounds.baselines = plan.bounds.order = false;
  plan.dense_settings.push_back("train.epochs=2");
  plan.passt_settings.push_back("train.epochs=3");
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(run_demo_plan(plan), 0);
  const std::string expected = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(expected.find("expected, not checked at this size"), std::string::npos) << expected;
  EXPECT_EQ(expected.find("\nNO "), std::string::npos) << expected;
  const auto table1 = nlohmann::json::parse(read_bytes(folder / "table1.json"));
  ASSERT_EQ(table1["rows"].size(), 4u);
  for (const auto& row : table1["rows"]) {
    EXPECT_GT(row["rmse"].get<double>(), 0.03);
    EXPECT_LT(row["rmse"].get<double>(), 0.5);
  }
  EXPECT_GT(table1["rows"][0]["hours_per_epoch"].get<double>(), 0);
  const auto table2 = nlohmann::json::parse(read_bytes(folder / "table2.json"));
  EXPECT_EQ(table2["rows"][0]["genre"], "all data");
  EXPECT_GT(table2["rows"].size(), 4u);
  const auto demo = nlohmann::json::parse(read_bytes(folder / "demo.json"));
  EXPECT_EQ(demo["checks"].size(), 3u);
  EXPECT_EQ(demo["checks"][0]["checked"], false);
  EXPECT_EQ(demo["seconds"].size(), 5u);

  const std::string before =
      read_bytes(folder / "table1.json") + read_bytes(folder / "table2.json");
  const fs::path last = folder / "runs" / "passt" / "metrics.jsonl";
  const std::string metrics = read_bytes(last);
  ASSERT_EQ(run_demo_plan(plan), 0);
  EXPECT_EQ(read_bytes(folder / "table1.json") + read_bytes(folder / "table2.json"), before);
  EXPECT_EQ(read_bytes(last), metrics);

  // A bound that no model can meet: the exit code says so, stderr names it, all is written.
  plan.bounds.dense_rmse = 1e-3;
  fs::remove(folder / "table1.json");
  fs::remove(folder / "predictions.csv");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_demo_plan(plan), static_cast<int>(ExitCode::kCheckFailed));
  const std::string out = ::testing::internal::GetCapturedStdout();
  const std::string err = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(out.find("NO   dense is near the floor"), std::string::npos) << out;
  EXPECT_NE(err.find("1 of 1 checks of the demo failed"), std::string::npos) << err;
  EXPECT_NE(err.find("dense is near the floor"), std::string::npos) << err;
  EXPECT_EQ(read_bytes(folder / "table1.json") + read_bytes(folder / "table2.json"), before);
  EXPECT_TRUE(fs::exists(folder / "predictions.csv"));
  const auto failed = nlohmann::json::parse(read_bytes(folder / "demo.json"))["checks"];
  ASSERT_EQ(failed.size(), 4u);
  EXPECT_EQ(failed[0]["checked"], true);
  EXPECT_EQ(failed[0]["holds"], false);
}

}  // namespace
}  // namespace onpa::apps
