// `onpa train --report-json`: what a program that started a run is told.
#include "apps/training/train_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tests/apps/ranks_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TrainReportTest : public ::testing::Test {
 protected:
  void SetUp() override { feature_data(200).save(path("data")); }
  fs::path path(const std::string& name) const { return folder_ / name; }
  fs::path report_file() const { return path("report.json"); }

  std::vector<std::string> args(const std::string& run, std::vector<std::string> set = {}) const {
    set.insert(set.begin(), {"train.epochs=3", "train.batch_size=32", "model.hidden=[8]"});
    std::vector<std::string> out = train_args("dense", path("data"), path(run), set);
    out.insert(out.end(), {"--report-json", report_file().string()});
    return out;
  }
  json report() const { return json::parse(read_bytes(report_file())); }
  // The last line of metrics with this entry.
  json last_line(const std::string& run, const std::string& key) const {
    std::istringstream in(read_bytes(path(run) / "metrics.jsonl"));
    json out;
    for (std::string line; std::getline(in, line);) {
      json parsed = json::parse(line);
      if (parsed.contains(key)) out = std::move(parsed);
    }
    return out;
  }

  TempFolder folder_;
};

// It is written whatever happens, in the place of what would be lost.
TEST_F(TrainReportTest, AFileOfTheRunIsRefused) {
  std::vector<std::string> words = args("run");
  for (const char* name : {"metrics.jsonl", "x/../config.resolved.toml"}) {
    words.back() = (path("run") / name).string();
    const CommandResult result = run_command(words);
    EXPECT_EQ(result.code, 64) << result.err;
    EXPECT_NE(result.err.find("--report-json name the same file"), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(path("run") / "metrics.jsonl"));
  }
}

// Names of files are bytes.
TEST_F(TrainReportTest, DataOfAnyName) {
  fs::rename(path("data"), path("d\xFF"));
  std::vector<std::string> words = args("run\xFF");
  words[3] = path("d\xFF").string();
  const CommandResult trained = run_command(words);
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_TRUE(fs::exists(path("run\xFF/checkpoints/last/model.safetensors")));
  words.insert(words.end(), {"--set", "train.epochs=4"});
  EXPECT_EQ(run_command(words).code, 0);
}

TEST_F(TrainReportTest, ADenseModelTakesNoOptionsOfClips) {
  ASSERT_EQ(run_command(args("run")).code, 0);
  write_bytes(path("rows.csv"), "a,b,c,d\n1,2,3,4\n");
  const std::vector<std::string> words = {"predict", "--model", path("run").string(),
                                          path("rows.csv").string()};
  ASSERT_EQ(run_command(words).code, 0);
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--long", "cut"},
                                               {"--window", "1"},
                                               {"--every", "1"},
                                               {"--batch", "2"},
                                               {"--max-seconds", "1"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    const CommandResult result = run_command(all);
    EXPECT_EQ(result.code, 64) << result.err;
    EXPECT_NE(result.err.find(more.front()), std::string::npos) << result.err;
  }
}

TEST_F(TrainReportTest, SaysHowARunEnded) {
  ASSERT_EQ(run_command(args("run")).code, 0);
  const json r = report(), evaluation = last_line("run", "test_rmse");
  EXPECT_EQ(r["status"], "done");
  EXPECT_EQ(r["exit_code"], 0);
  EXPECT_TRUE(r["error"].is_null());
  EXPECT_EQ(r["evaluated"], "test");
  EXPECT_EQ(r["step"], 15);
  EXPECT_EQ(r["epoch"], 3);
  EXPECT_EQ(r["rmse"], evaluation["test_rmse"]);
  EXPECT_EQ(r["mae"], evaluation["test_mae"]);
  EXPECT_EQ(r["r2"], evaluation["test_r2"]);
  EXPECT_LE(r["best_rmse"], r["rmse"]);
  EXPECT_EQ(r["parameters"], 4 * 8 + 8 + 8 + 1);
  EXPECT_GT(r["train_seconds"], 0);

  // A run that has nothing left to do knows its errors all the same.
  ASSERT_EQ(run_command(args("run")).code, 0);
  EXPECT_EQ(report(), r);
}

TEST_F(TrainReportTest, ErrorsAreThoseOfAveragedWeightsWhereTheyAreKept) {
  ASSERT_EQ(run_command(args("run", {"data.validation=0.3", "average.kind=swa"})).code, 0);
  const json evaluation = last_line("run", "validation_rmse");
  EXPECT_EQ(report()["evaluated"], "validation");
  EXPECT_EQ(report()["rmse"], evaluation["average_rmse"]);
  EXPECT_NE(report()["rmse"], evaluation["validation_rmse"]);
  ASSERT_EQ(run_command(args("run", {"data.validation=0.3", "average.kind=swa"})).code, 0);
  EXPECT_EQ(report()["rmse"], evaluation["average_rmse"]);
}

TEST_F(TrainReportTest, IsThereWhileARunGoesOn) {
  Command command(
      args("run", {"train.epochs=100000", "train.checkpoint_epochs=0", "train.log_steps=5"}));
  ASSERT_TRUE(command.wait_for("epoch 3/")) << command.err();
  const json running = report();
  EXPECT_EQ(running["status"], "running");
  EXPECT_TRUE(running["exit_code"].is_null());
  EXPECT_GE(running["epoch"], 1);
  EXPECT_GT(running["rmse"], 0);
  command.send(SIGUSR1);
  ASSERT_EQ(command.wait().code, 75);
  EXPECT_EQ(report()["status"], "stopped");
  EXPECT_EQ(report()["exit_code"], 75);
  EXPECT_GE(report()["step"], running["step"]);
}

TEST_F(TrainReportTest, SaysWhatWentWrong) {
  EXPECT_EQ(run_command(args("a", {"train.lr=10", "optim.kind=sgd", "optim.momentum=0.99",
                                   "train.epochs=100", "train.max_nonfinite=1"}))
                .code,
            80);
  EXPECT_EQ(report()["status"], "diverged");
  EXPECT_EQ(report()["exit_code"], 80);
  EXPECT_NE(report()["error"].get<std::string>().find("diverged"), std::string::npos);
  EXPECT_GT(report()["step"], 0);

  // What is known before there is a run.
  EXPECT_EQ(run_command(args("b", {"train.lr=-1"})).code, 78);
  EXPECT_EQ(report()["status"], "failed");
  EXPECT_EQ(report()["exit_code"], 78);
  EXPECT_NE(report()["error"].get<std::string>().find("train.lr"), std::string::npos);
  fs::remove(path("data") / "tracks.csv");
  EXPECT_EQ(run_command(args("c")).code, 66);
  EXPECT_EQ(report()["exit_code"], 66);
}

TEST_F(TrainReportTest, WhatIsNotKnownIsNull) {
  ASSERT_EQ(run_command(args("run", {"train.epochs=0"})).code, 0);
  for (const char* key : {"rmse", "mae", "r2", "best_rmse", "best_step"}) {
    EXPECT_TRUE(report()[key].is_null()) << key;
  }
  // One test track: no R2.
  data::DataSet data = feature_data(10);
  for (data::Track& track : data.tracks) track.split = data::Split::kTrain;
  data.tracks[0].split = data::Split::kTest;
  data.save(path("data"));
  ASSERT_EQ(run_command(args("one")).code, 0);
  EXPECT_GT(report()["rmse"], 0);
  EXPECT_TRUE(report()["r2"].is_null());
}

TEST_F(TrainReportTest, AFileThatCannotBeWrittenIsSaidBeforeTheWork) {
  auto nowhere = args("run");
  nowhere.back() = (path("none") / "report.json").string();
  const CommandResult result = run_command(nowhere);
  EXPECT_EQ(result.code, 73) << result.err;
  EXPECT_NE(result.err.find(nowhere.back()), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("step 1"), std::string::npos) << result.err;
}

#ifdef ONPA_MPIEXEC
TEST_F(TrainReportTest, OfSeveralRanksTheFirstWrites) {
  const auto run = [&](const std::vector<std::string>& args) {
    std::vector<std::string> words = mpi_words(2);
    words.emplace_back(ONPA_COMMAND);
    words.insert(words.end(), args.begin(), args.end());
    return Command(ONPA_MPIEXEC, words, {{"ONPA_THREADS", "1"}}).wait();
  };
  EXPECT_EQ(run(args("two")).code, 0);
  EXPECT_EQ(report()["status"], "done");
  EXPECT_EQ(report()["rmse"], last_line("two", "test_rmse")["test_rmse"]);
  EXPECT_EQ(run(args("b", {"train.lr=10", "optim.kind=sgd", "optim.momentum=0.99",
                           "train.epochs=100", "train.max_nonfinite=1"}))
                .code,
            80);
  EXPECT_EQ(report()["status"], "diverged");
  EXPECT_NE(report()["error"].get<std::string>().find("diverged"), std::string::npos);
  auto nowhere = args("c");
  nowhere.back() = (path("none") / "report.json").string();
  const CommandResult result = run(nowhere);
  EXPECT_EQ(result.code, 73);
  const std::size_t first = result.err.find("cannot create");
  EXPECT_NE(first, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("cannot create", first + 1), std::string::npos) << result.err;
}
#endif

TEST_F(TrainReportTest, BytesThatAreNoTextDoNotSpoilIt) {
  apps::TrainReport report(report_file());
  EXPECT_THROW(report.around([]() -> int { fail(ExitCode::kBadData, "a\xff"); }), Error);
  EXPECT_EQ(this->report()["exit_code"], 65);
}

}  // namespace
}  // namespace onpa::testing
