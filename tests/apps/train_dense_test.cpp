// Training the dense model through the command: interruptions, faults and what they leave behind.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/apps/train_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class TrainDense : public ::testing::Test {
 protected:
  void SetUp() override { feature_data(400).save(data()); }
  fs::path data() const { return folder_ / "data"; }
  fs::path run(const std::string& name) const { return folder_ / name; }

  // 320 train rows in batches of 32: ten steps an epoch. Dropout and averages make the state large.
  std::vector<std::string> args(const std::string& name, std::vector<std::string> more = {}) const {
    std::vector<std::string> set = {"train.epochs=4",      "train.batch_size=32",
                                    "train.log_steps=1",   "train.checkpoint_steps=7",
                                    "model.hidden=[16,8]", "model.dropout=0.1",
                                    "average.kind=swa",    "schedule.kind=cosine"};
    set.insert(set.end(), more.begin(), more.end());
    return train_args("dense", data(), run(name), set);
  }
  void expect_same_bits(const std::string& a, const std::string& b) const {
    EXPECT_TRUE(last_weights(run(a)) == last_weights(run(b)));
    const fs::path last = "checkpoints/last";
    for (const char* file : {"optim.safetensors", "swa.safetensors"}) {
      EXPECT_TRUE(read_bytes(run(a) / last / file) == read_bytes(run(b) / last / file)) << file;
    }
  }
  void expect_same_run(const std::string& a, const std::string& b) const {
    expect_same_bits(a, b);
    EXPECT_EQ(steps_of(a), steps_of(b));
  }
  // Step and kind of every line of metrics.
  std::vector<std::string> steps_of(const std::string& name) const {
    std::vector<std::string> out;
    std::istringstream in(read_bytes(run(name) / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      const auto json = nlohmann::json::parse(line);
      out.push_back(json["step"].dump() + (json.contains("test_rmse") ? " test" : ""));
    }
    return out;
  }

  TempFolder folder_;
};

TEST_F(TrainDense, LeavesAWholeRunFolder) {
  const CommandResult result = run_command(args("a"));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("step 40/40 | epoch 4/4"), std::string::npos) << result.err;
  for (const char* file : {"config.resolved.toml", "metrics.jsonl", "env.json",
                           "checkpoints/last/model.safetensors", "checkpoints/best/state.json"}) {
    EXPECT_TRUE(fs::exists(run("a") / file)) << file;
  }
  EXPECT_EQ(steps_of("a").size(), 44u);  // 40 steps and 4 evaluations

  // The resolved settings alone give the same run, and the same settings.
  const CommandResult again =
      run_command({"train", "dense", "--data", data().string(), "--run", run("b").string(),
                   "--config", (run("a") / "config.resolved.toml").string()});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(read_bytes(run("a") / "config.resolved.toml"),
            read_bytes(run("b") / "config.resolved.toml"));
  expect_same_run("a", "b");
}

// `onpa train ... 2>&1 | head -1`: the reader goes away, the run does not.
TEST_F(TrainDense, ClosedOutputDoesNotEndARun) {
  std::string line = ONPA_COMMAND;
  for (const std::string& arg : args("a")) line += " " + arg;
  ASSERT_EQ(std::system((line + " 2>&1 | true").c_str()), 0);
  EXPECT_EQ(steps_of("a").size(), 44u);
}

TEST_F(TrainDense, FinishedRunHasNothingToDo) {
  ASSERT_EQ(run_command(args("a")).code, 0);
  const std::string weights = last_weights(run("a"));
  const auto steps = steps_of("a");
  EXPECT_EQ(run_command(args("a")).code, 0);
  EXPECT_TRUE(last_weights(run("a")) == weights);
  EXPECT_EQ(steps_of("a"), steps);
  auto fresh = args("a");
  fresh.insert(fresh.end(), {"--resume", "no"});
  EXPECT_EQ(run_command(fresh).code, 73);
  auto must = args("b");
  must.insert(must.end(), {"--resume", "must"});
  EXPECT_EQ(run_command(must).code, 83);
}

TEST_F(TrainDense, StoppedAndResumedHasTheSameBits) {
  ASSERT_EQ(run_command(args("whole")).code, 0);
  // In the middle of an epoch, at its end, and right after a checkpoint.
  for (const int steps : {3, 10, 14, 25}) {
    const std::string name = "part" + std::to_string(steps);
    ASSERT_EQ(run_command(args(name, {"train.max_steps=" + std::to_string(steps)})).code, 0);
    ASSERT_EQ(run_command(args(name)).code, 0);
    EXPECT_TRUE(last_weights(run("whole")) == last_weights(run(name))) << steps;
  }
}

TEST_F(TrainDense, SignalSavesAndExits75) {
  const std::vector<std::string> longer = {"train.epochs=200", "train.checkpoint_steps=0",
                                           "train.checkpoint_epochs=0", "train.eval_epochs=50"};
  ASSERT_EQ(run_command(args("whole", longer)).code, 0);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    const std::string name = "signal" + std::to_string(number);
    Command command(args(name, longer));
    ASSERT_TRUE(command.wait_for("epoch 7/")) << command.err();
    command.send(number);
    const CommandResult stopped = command.wait();
    ASSERT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_NE(stopped.err.find("stopped at step"), std::string::npos);
    ASSERT_EQ(run_command(args(name, longer)).code, 0);
    expect_same_run("whole", name);
  }
}

TEST_F(TrainDense, KilledAndResumedHasTheSameBits) {
  const std::vector<std::string> longer = {
      "train.epochs=60",      "train.batch_size=4",         "train.log_steps=8",
      "train.eval_epochs=20", "train.checkpoint_steps=500", "train.checkpoint_epochs=0"};
  ASSERT_EQ(run_command(args("whole", longer)).code, 0);
  for (const char* moment : {"epoch 3/", "epoch 20/"}) {
    const std::string name = "killed" + std::string(moment).substr(6, 1);
    Command command(args(name, longer));
    ASSERT_TRUE(command.wait_for(moment)) << command.err();
    command.send(SIGKILL);
    ASSERT_EQ(command.wait().code, 128 + SIGKILL);
    const CommandResult resumed = run_command(args(name, longer));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_same_run("whole", name);
  }
}

TEST_F(TrainDense, KilledInsideACheckpointResumesWithTheSameBits) {
  const std::vector<std::string> seldom = {"train.checkpoint_steps=0", "train.checkpoint_epochs=2"};
  ASSERT_EQ(run_command(args("whole", seldom)).code, 0);
  int killed = 0;
  for (const int operation : {1, 5, 11, 18, 26, 37, 48}) {
    const std::string name = "fault" + std::to_string(operation);
    const CommandResult first = run_command(
        args(name, seldom), {{"ONPA_FAULT", "checkpoint:" + std::to_string(operation) + ":kill"}});
    if (first.code == 128 + SIGKILL) ++killed;
    const CommandResult resumed = run_command(args(name, seldom));
    ASSERT_EQ(resumed.code, 0) << operation << resumed.err;
    expect_same_run("whole", name);
  }
  EXPECT_GE(killed, 5);
}

TEST_F(TrainDense, FullDiskCostsACheckpointButNotTheRun) {
  ASSERT_EQ(run_command(args("whole")).code, 0);
  const CommandResult result = run_command(args("full"), {{"ONPA_FAULT", "checkpoint:6:enospc"}});
  EXPECT_EQ(result.code, 0) << result.err;  // a later save worked
  EXPECT_NE(result.err.find("warning: checkpoint at step 7 not saved"), std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("No space left on device"), std::string::npos);
  expect_same_run("whole", "full");
}

// A file stands where the folder of the checkpoints should be, from the middle of the run on.
TEST_F(TrainDense, FailedLastSaveExits74) {
  const auto longer = args("a", {"train.epochs=3000", "train.checkpoint_epochs=0",
                                 "train.checkpoint_steps=0", "train.eval_epochs=0"});
  Command command(longer);
  ASSERT_TRUE(command.wait_for("epoch 2/")) << command.err();
  fs::remove_all(run("a") / "checkpoints");
  write_bytes(run("a") / "checkpoints", "");
  command.send(SIGTERM);
  const CommandResult result = command.wait();
  EXPECT_EQ(result.code, 74) << result.err;
  EXPECT_NE(result.err.find("the last checkpoint could not be written"), std::string::npos);
}

TEST_F(TrainDense, DamagedCheckpointIsPassedOver) {
  ASSERT_EQ(run_command(args("whole")).code, 0);
  ASSERT_EQ(run_command(args("part", {"train.max_steps=20"})).code, 0);
  const fs::path newest = run("part") / "checkpoints" / "step_00000020" / "optim.safetensors";
  std::string bytes = read_bytes(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x10);
  write_bytes(newest, bytes);
  const CommandResult resumed = run_command(args("part"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("checkpoint passed over"), std::string::npos) << resumed.err;
  EXPECT_TRUE(last_weights(run("whole")) == last_weights(run("part")));
}

TEST_F(TrainDense, OnlyDamagedCheckpointsIs83) {
  ASSERT_EQ(run_command(args("a", {"train.max_steps=3"})).code, 0);
  for (const auto& entry : fs::directory_iterator(run("a") / "checkpoints")) {
    if (!entry.is_symlink()) write_bytes(entry.path() / "model.safetensors", "x");
  }
  EXPECT_EQ(run_command(args("a")).code, 83);
}

TEST_F(TrainDense, DivergenceIs80AndLeavesOnlyFiniteCheckpoints) {
  const CommandResult result = run_command(
      args("a", {"train.lr=10", "optim.kind=sgd", "optim.momentum=0.99", "average.kind=none",
                 "data.standardize_target=false", "train.max_nonfinite=3", "train.epochs=500",
                 "schedule.kind=constant"}));
  EXPECT_EQ(result.code, 80) << result.err;
  EXPECT_NE(result.err.find("diverged"), std::string::npos);
  if (fs::exists(run("a") / "checkpoints" / "last")) {
    EXPECT_EQ(run_command({"eval", "--run", run("a").string()}).code, 0);
  }
}

TEST_F(TrainDense, SecondRunInAFolderIs73) {
  Command first(args("a", {"train.epochs=100000", "train.checkpoint_epochs=0",
                           "train.checkpoint_steps=0", "train.eval_epochs=0"}));
  ASSERT_TRUE(first.wait_for("epoch 2/")) << first.err();
  const CommandResult second = run_command(args("a"));
  EXPECT_EQ(second.code, 73);
  EXPECT_NE(second.err.find("another run uses this folder"), std::string::npos) << second.err;
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().code, 75);
}

TEST_F(TrainDense, AnotherModelInARunFolderIs78) {
  ASSERT_EQ(run_command(args("a", {"train.max_steps=3"})).code, 0);
  const CommandResult result = run_command(args("a", {"model.hidden=[16]"}));
  EXPECT_EQ(result.code, 78);
  EXPECT_NE(result.err.find("model.hidden"), std::string::npos) << result.err;
}

TEST_F(TrainDense, AccumulationResumesToo) {
  const std::vector<std::string> more = {"train.accumulate=3", "average.kind=ema"};
  ASSERT_EQ(run_command(args("whole", more)).code, 0);
  auto part = more;
  part.push_back("train.max_steps=6");
  ASSERT_EQ(run_command(args("part", part)).code, 0);
  ASSERT_EQ(run_command(args("part", more)).code, 0);
  expect_same_bits("whole", "part");
}

TEST_F(TrainDense, EvalAndPredict) {
  ASSERT_EQ(run_command(args("a", {"train.lr=0.02"})).code, 0);
  const CommandResult eval = run_command({"eval", "--run", run("a").string(), "--by", "genre"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto table1 = nlohmann::json::parse(read_bytes(run("a") / "table1.json"));
  EXPECT_EQ(table1["rows"][0]["model"], "dense");
  EXPECT_LT(table1["rows"][0]["rmse"].get<double>(), 0.1);
  EXPECT_GT(table1["rows"][0]["hours_per_epoch"].get<double>(), 0);
  EXPECT_EQ(table1["rows"].size(), 3u);  // and the two baselines
  EXPECT_TRUE(fs::exists(run("a") / "table2.json"));
  EXPECT_TRUE(fs::exists(run("a") / "predictions.csv"));

  write_bytes(folder_ / "rows.csv", "name,d,c,b,a\nx,0,0,0,2\ny,0,0,0,-2\n");
  const CommandResult predict = run_command(
      {"predict", "--model", run("a").string(), "--json", (folder_ / "rows.csv").string()});
  ASSERT_EQ(predict.code, 0) << predict.err;
  std::istringstream lines(predict.out);
  std::string first, second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_GT(nlohmann::json::parse(first)["prediction"].get<double>(),
            nlohmann::json::parse(second)["prediction"].get<double>() + 0.1);

  audio_data(folder_ / "audio", 1);
  const std::string clip = (folder_ / "audio/track0.mp3").string();
  const CommandResult audio = run_command({"predict", "--model", run("a").string(), clip});
  EXPECT_EQ(audio.code, 64);
  EXPECT_NE(audio.err.find("a dense model takes CSV files, " + clip + " is audio"),
            std::string::npos)
      << audio.err;

  write_bytes(folder_ / "bad.csv", "a,b,c,d\n1,2,3,x\n");
  EXPECT_EQ(
      run_command({"predict", "--model", run("a").string(), (folder_ / "bad.csv").string()}).code,
      65);
  write_bytes(folder_ / "huge.csv", "a,b,c,d\n1,2,3,4\n1,2,1e300,4\n");
  const CommandResult huge =
      run_command({"predict", "--model", run("a").string(), (folder_ / "huge.csv").string()});
  EXPECT_EQ(huge.code, 65);
  EXPECT_NE(huge.err.find("huge.csv:3: column c is '1e300'"), std::string::npos) << huge.err;
}

TEST_F(TrainDense, RunsOfOneKindKeepTheirOwnColumns) {
  ASSERT_EQ(run_command(args("a", {"train.epochs=1"})).code, 0);
  ASSERT_EQ(run_command(args("b", {"train.epochs=1", "train.seed=2"})).code, 0);
  const std::string a = run("a").string(), b = run("b").string();
  const CommandResult eval = run_command({"eval", "--run", a, "--run", b});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto table2 = nlohmann::json::parse(read_bytes(run("a") / "table2.json"));
  EXPECT_EQ(table2["models"], (std::vector<std::string>{"dense " + a, "dense " + b}));
  EXPECT_EQ(table2["rows"][0]["mae"].size(), 2u);
}

}  // namespace
}  // namespace onpa::testing
