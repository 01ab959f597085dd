// What data.validation holds out, and that nothing else of a run sees the test split then.
#include "apps/training/train_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/error.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using apps::Config;
using apps::train_rows;
using apps::TrainRows;

Config config_of(const std::string& kind, double validation, std::int64_t seed = 1) {
  Config config = apps::load_config(kind, {}, {});
  config.data.validation = validation;
  config.train.seed = seed;
  return config;
}

std::set<std::string> ids_of(const data::DataSet& data, const std::vector<std::int64_t>& rows) {
  std::set<std::string> out;
  for (const std::int64_t row : rows) out.insert(data.tracks[static_cast<std::size_t>(row)].id);
  return out;
}

TEST(TrainRowsTest, WithoutValidationTheyAreTheSplits) {
  data::DataSet data = feature_data(50);
  data.tracks[7].kept = false;
  const TrainRows rows = train_rows(data, config_of("dense", 0));
  EXPECT_EQ(rows.train, data.indices(data::Split::kTrain));
  EXPECT_EQ(rows.evaluation, data.indices(data::Split::kTest));
  EXPECT_EQ(rows.evaluated, "test");
}

TEST(TrainRowsTest, ValidationIsAShareOfTheTrainSplitAlone) {
  data::DataSet data = feature_data(5000);
  for (std::size_t i = 0; i < data.tracks.size(); i += 3) data.tracks[i].kept = false;
  const TrainRows rows = train_rows(data, config_of("dense", 0.2));
  EXPECT_EQ(rows.evaluated, "validation");
  EXPECT_TRUE(std::is_sorted(rows.train.begin(), rows.train.end()));
  EXPECT_TRUE(std::is_sorted(rows.evaluation.begin(), rows.evaluation.end()));
  const std::set<std::int64_t> train(rows.train.begin(), rows.train.end());
  const std::set<std::int64_t> held(rows.evaluation.begin(), rows.evaluation.end());
  std::int64_t held_but_not_kept = 0;
  for (std::int64_t i = 0; i < 5000; ++i) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(i)];
    const bool in_train = train.contains(i), in_held = held.contains(i);
    EXPECT_FALSE(in_train && in_held) << i;
    const bool in_split = track.split == data::Split::kTrain;
    EXPECT_TRUE(in_split || !(in_train || in_held)) << i;
    EXPECT_TRUE(!in_split || !track.kept || in_train || in_held) << i;
    EXPECT_TRUE(track.kept || !in_train) << i;
    held_but_not_kept += in_held && !track.kept;
  }
  // 4000 draws: four standard deviations are 0.025. Undersampling has no say in what is held out.
  EXPECT_NEAR(static_cast<double>(held.size()) / 4000, 0.2, 0.025);
  EXPECT_NEAR(static_cast<double>(held_but_not_kept) / static_cast<double>(held.size()), 1. / 3,
              0.07);
}

TEST(TrainRowsTest, TheChoiceDependsOnSeedAndIdAlone) {
  const data::DataSet large = feature_data(500);
  data::DataSet small = large;
  small.tracks.resize(200);
  std::reverse(small.tracks.begin(), small.tracks.end());
  const auto held = [](const data::DataSet& data, double share, std::int64_t seed) {
    return ids_of(data, train_rows(data, config_of("dense", share, seed)).evaluation);
  };
  const std::set<std::string> all = held(large, 0.2, 1), part = held(small, 0.2, 1);
  EXPECT_GT(part.size(), 10u);
  EXPECT_TRUE(std::includes(all.begin(), all.end(), part.begin(), part.end()));
  EXPECT_NE(held(large, 0.2, 2), all);
  const std::set<std::string> more = held(large, 0.4, 1);
  EXPECT_TRUE(std::includes(more.begin(), more.end(), all.begin(), all.end()));
}

TEST(TrainRowsTest, AGroupIsHeldOutAsAWhole) {
  data::DataSet data = feature_data(3000);
  for (std::size_t i = 0; i < data.tracks.size(); ++i) {
    data.tracks[i].group = "artist" + std::to_string(i % 200);
  }
  const TrainRows rows = train_rows(data, config_of("dense", 0.2));
  std::set<std::string> held, trained;
  for (const std::int64_t row : rows.evaluation) {
    held.insert(data.tracks[static_cast<std::size_t>(row)].group);
  }
  for (const std::int64_t row : rows.train) {
    trained.insert(data.tracks[static_cast<std::size_t>(row)].group);
  }
  EXPECT_EQ(held.size() + trained.size(), 160u);  // each fifth group is a test group
  for (const std::string& group : held) EXPECT_FALSE(trained.contains(group)) << group;
  EXPECT_NEAR(static_cast<double>(held.size()) / 160, 0.2, 0.13);
}

TEST(TrainRowsTest, IsNoSecondHelpingOfTheSplit) {
  // A split of the same share and seed chooses other tracks.
  data::DataSet data = feature_data(2000);
  data::assign_split(data.tracks, 0.8, 1);
  std::set<std::string> test = ids_of(data, data.indices(data::Split::kTest));
  for (data::Track& track : data.tracks) track.split = data::Split::kTrain;
  const auto held = ids_of(data, train_rows(data, config_of("dense", 0.2)).evaluation);
  std::int64_t both = 0;
  for (const std::string& id : held) both += test.contains(id);
  EXPECT_NEAR(static_cast<double>(both) / static_cast<double>(held.size()), 0.2, 0.08);
}

TEST(TrainRowsTest, AudioModelsTakeTracksWithAudioAlone) {
  data::DataSet data = feature_data(100);
  for (std::size_t i = 0; i < data.tracks.size(); i += 2) data.tracks[i].audio = "a.mp3";
  for (const double validation : {0.0, 0.3}) {
    const TrainRows rows = train_rows(data, config_of("passt", validation));
    EXPECT_FALSE(rows.train.empty());
    EXPECT_FALSE(rows.evaluation.empty());
    for (const auto& list : {rows.train, rows.evaluation}) {
      for (const std::int64_t row : list) EXPECT_EQ(row % 2, 0);
    }
  }
}

TEST(TrainRowsTest, NothingLeftIsSaid) {
  const auto problem = [](const data::DataSet& data, const Config& config) -> std::string {
    try {
      train_rows(data, config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      return error.what();
    }
    return "";
  };
  const data::DataSet three = feature_data(3);
  EXPECT_EQ(problem(three, config_of("dense", 0)), "");
  EXPECT_EQ(problem(three, config_of("dense", 1e-6)),
            "data.validation=1e-06 leaves no track to evaluate on: 3 to train on, 0 held out");
  data::DataSet none = three;
  for (data::Track& track : none.tracks) track.kept = false;
  EXPECT_EQ(problem(none, config_of("dense", 0)), "the data set has no train track");
  EXPECT_NE(problem(none, config_of("dense", 0.5)).find("leaves no track to train on"),
            std::string::npos);
  EXPECT_EQ(problem(three, config_of("passt", 0)),
            "the data set has no train track with audio; give prepare --audio");
}

class ValidationRun : public ::testing::Test {
 protected:
  fs::path path(const std::string& name) const { return folder_ / name; }

  CommandResult train(const std::string& data, const std::string& run,
                      std::vector<std::string> set = {}) const {
    set.insert(set.begin(), {"train.epochs=3", "train.batch_size=32", "model.hidden=[8]",
                             "data.validation=0.25", "train.log_steps=1"});
    return run_command(train_args("dense", path(data), path(run), set));
  }
  std::vector<nlohmann::json> metrics(const std::string& run) const {
    std::vector<nlohmann::json> out;
    std::istringstream in(read_bytes(path(run) / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) out.push_back(nlohmann::json::parse(line));
    return out;
  }
  std::vector<double> values_of(const std::string& run, const std::string& key) const {
    std::vector<double> out;
    for (const nlohmann::json& line : metrics(run)) {
      if (line.contains(key)) out.push_back(line[key]);
    }
    return out;
  }

  TempFolder folder_;
};

TEST_F(ValidationRun, NeverSeesTheTestSplitNorLearnsFromWhatIsHeldOut) {
  const data::DataSet data = feature_data(400);
  data.save(path("data"));
  const TrainRows rows = train_rows(data, config_of("dense", 0.25));
  const auto spoil = [&](data::DataSet changed, std::int64_t row) {
    data::Track& track = changed.tracks[static_cast<std::size_t>(row)];
    track.features = {90, -80, 70, 60};
    track.popularity = 0;
    return changed;
  };
  data::DataSet other_test = data, other_held = data;
  for (const std::int64_t row : data.indices(data::Split::kTest))
    other_test = spoil(other_test, row);
  for (const std::int64_t row : rows.evaluation) other_held = spoil(other_held, row);
  other_test.save(path("other_test"));
  other_held.save(path("other_held"));
  for (const char* name : {"data", "other_test", "other_held"}) {
    const CommandResult result = train(name, std::string("run_") + name);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("validation RMSE"), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("test RMSE"), std::string::npos) << result.err;
  }
  // The weights' file also holds the scales of features and target.
  const std::string weights = last_weights(path("run_data"));
  EXPECT_TRUE(weights == last_weights(path("run_other_test")));
  EXPECT_TRUE(weights == last_weights(path("run_other_held")));
  EXPECT_NE(weights.find("data.validation holds out"), std::string::npos);
  const std::vector<double> errors = values_of("run_data", "validation_rmse");
  EXPECT_EQ(errors.size(), 3u);
  EXPECT_EQ(values_of("run_other_test", "validation_rmse"), errors);
  EXPECT_NE(values_of("run_other_held", "validation_rmse"), errors);
  EXPECT_TRUE(values_of("run_data", "test_rmse").empty());
}

TEST_F(ValidationRun, ResumedRunEvaluatesAnewAndOnce) {
  feature_data(400).save(path("data"));
  ASSERT_EQ(train("data", "whole").code, 0);
  ASSERT_EQ(train("data", "part", {"train.max_steps=9"}).code, 0);  // ends with an evaluation
  ASSERT_EQ(train("data", "part").code, 0);
  EXPECT_TRUE(last_weights(path("whole")) == last_weights(path("part")));
  EXPECT_EQ(values_of("whole", "validation_rmse").back(),
            values_of("part", "validation_rmse").back());
  std::set<std::int64_t> steps;
  for (const nlohmann::json& line : metrics("part")) {
    const bool evaluation = line.contains("validation_rmse");
    EXPECT_TRUE(!evaluation || steps.insert(line["step"].get<std::int64_t>()).second) << line;
  }
}

TEST_F(ValidationRun, ResumingWithOtherTracksHeldOutIsRefused) {
  feature_data(400).save(path("data"));
  ASSERT_EQ(train("data", "run").code, 0);
  const std::string weights = last_weights(path("run"));
  for (const char* set : {"data.validation=0.2", "data.validation=0", "train.seed=2"}) {
    const CommandResult result = train("data", "run", {"train.epochs=4", set});
    EXPECT_EQ(result.code, 78) << result.err;
    EXPECT_NE(result.err.find("other tracks would be held out"), std::string::npos) << result.err;
  }
  EXPECT_TRUE(last_weights(path("run")) == weights);
  // Without a validation part a seed may change, as before.
  ASSERT_EQ(train("data", "test", {"data.validation=0"}).code, 0);
  EXPECT_EQ(train("data", "test", {"data.validation=0", "train.epochs=4", "train.seed=2"}).code, 0);
}

}  // namespace
}  // namespace onpa::testing
