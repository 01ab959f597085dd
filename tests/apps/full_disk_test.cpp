// A real file system with no room left. write_faults_test.cpp has every operation in turn, on every
// machine.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/apps/disk_support.h"
#include "tests/support/small_disk.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class FullDisk : public ::testing::Test {
 protected:
  static constexpr std::size_t kMiB = std::size_t{1} << 20;

  void SetUp() override {
    if (!disk_.reason().empty()) {
      GTEST_SKIP() << "no file system of one's own here: " << disk_.reason();
    }
    feature_data(400).save(data());
  }
  fs::path data() const { return folder_ / "data"; }

  // 74 or 73, the file and the reason, and nothing half-written on the disk.
  void expect_full(const CommandResult& result, int code, const std::string& file) const {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_TRUE(says(result, file + ": No space left on device")) << result.err;
    EXPECT_EQ(leftovers(disk_.path()), std::vector<std::string>());
  }

  const TempFolder folder_;
  const SmallDisk disk_{64 * kMiB};  // of memory, as far as it is used
};

TEST_F(FullDisk, ADenseRunGoesOnWhenThereIsRoomAgain) {
  const fs::path whole = folder_ / "whole", run = disk_ / "run";
  const auto part = [&](const fs::path& at) {
    return dense_args(data(), at, {"train.max_steps=18"});
  };
  for (const fs::path& at : {whole, run}) ASSERT_EQ(run_command(part(at)).code, 0);
  ASSERT_EQ(run_command(dense_args(data(), whole)).code, 0);
  const auto checkpoint = all_files(run / "checkpoints");

  // Not a byte: it does not begin.
  disk_.fill();
  expect_full(run_command(dense_args(data(), run)), 74, "/lock");
  EXPECT_TRUE(all_files(run / "checkpoints") == checkpoint);

  // Room for a few lines, none for checkpoints: it trains to the end, and says what is missing.
  disk_.make_room();
  disk_.fill(6 * 4096);
  const CommandResult full = run_command(dense_args(data(), run));
  EXPECT_TRUE(says(full, "warning: checkpoint at step 21 not saved: cannot write ")) << full.err;
  expect_full(full, 74, "/step_00000021");
  EXPECT_TRUE(all_files(run / "checkpoints") == checkpoint);

  disk_.make_room();
  const CommandResult resumed = run_command(dense_args(data(), run));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_run(whole, run);
}

// Lines end where the disk does, in the middle of one.
TEST_F(FullDisk, MetricsEndWithAWholeLine) {
  const fs::path run = disk_ / "run";
  ASSERT_EQ(run_command(dense_args(data(), run, {"train.max_steps=18"})).code, 0);
  disk_.fill(6 * 4096);
  const std::vector<std::string> longer = {"train.epochs=40", "train.eval_epochs=0",
                                           "train.checkpoint_steps=0"};
  const CommandResult full = run_command(dense_args(data(), run, longer));
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_TRUE(says(full, "error: not all metrics are written: cannot write ")) << full.err;
  EXPECT_GT(steps_of(run).size(), 19u);
  EXPECT_LT(steps_of(run).size(), 400u);
  EXPECT_GT(event_records(run), 0);
  EXPECT_EQ(read_bytes(run / "metrics.jsonl").back(), '\n');
  EXPECT_LE(disk_.free_bytes(), 2 * 4096u);  // what the lines cut off have given back
}

TEST_F(FullDisk, APasstRunKeepsItsLastCheckpoint) {
  audio_data(folder_ / "audio", 40).save(folder_ / "clips");
  const fs::path whole = folder_ / "whole", run = disk_ / "run";
  const auto args = [&](const fs::path& at) {
    return passt_args(folder_ / "clips", at,
                      {"loader.cache_folder=" + (at.parent_path() / "cache").string()});
  };
  ASSERT_EQ(run_command(args(whole)).code, 0);
  std::size_t bytes = 0;
  for (const auto& [name, content] : all_files(whole / "checkpoints/step_00000002")) {
    bytes += content.size();
  }
  disk_.fill(bytes + 3 * kMiB / 2);  // room for one checkpoint of the three
  const CommandResult full = run_command(args(run));
  EXPECT_TRUE(says(full, "warning: PCM cache: cannot write to ")) << full.err;
  EXPECT_TRUE(says(full, "the last checkpoint could not be written")) << full.err;
  expect_full(full, 74, "/step_00000006");
  EXPECT_EQ(fs::read_symlink(run / "checkpoints/last"), "step_00000002");

  disk_.make_room();
  const CommandResult resumed = run_command(args(run));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_run(whole, run);

  // embed knows before the work.
  disk_.fill();
  const std::string clip = (folder_ / "audio/track0.mp3").string();
  expect_full(run_command({"embed", "--model", whole.string(), clip, "--out",
                           (disk_ / "embed.npy").string()}),
              74, "cannot write " + (disk_ / "embed.npy").string());
  expect_full(run_command({"mel", clip, "--out", (disk_ / "mel.npy").string()}), 74, "/mel.npy");
}

TEST_F(FullDisk, PrepareAndEvalKeepWhatIsThere) {
  std::string csv = "track_id,popularity,energy,tempo\n";
  for (int i = 0; i < 500; ++i) {
    csv += "t" + std::to_string(i) + "," + std::to_string(i % 100) + ",.1,120\n";
  }
  write_bytes(folder_ / "tracks.csv", csv);
  const std::vector<std::string> prepare = {
      "prepare",      "--csv", (folder_ / "tracks.csv").string(), "--features",
      "energy,tempo", "--out", (disk_ / "data").string()};
  ASSERT_EQ(run_command(prepare).code, 0);
  const fs::path run = disk_ / "run";
  ASSERT_EQ(run_command(dense_args(disk_ / "data", run, {"train.epochs=1"})).code, 0);
  const std::vector<std::string> eval = {"eval", "--run", run.string()};
  const CommandResult evaluated = run_command(eval);
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  for (const std::size_t room : {0, 2, 3}) {
    disk_.make_room();
    disk_.fill(room * 4096);
    auto before = all_files(disk_.path());
    expect_full(run_command(prepare), 74, "");
    const CommandResult again = run_command(eval);
    expect_full(again, 74, "");
    EXPECT_EQ(again.out, evaluated.out);
    EXPECT_TRUE(all_files(disk_.path()) == before) << room;
  }
  disk_.make_room();
  EXPECT_EQ(run_command(prepare).code, 0);
  EXPECT_EQ(run_command(eval).code, 0);
}

TEST_F(FullDisk, OutputOnAFullDisk) {
  const fs::path run = folder_ / "run";
  ASSERT_EQ(run_command(dense_args(data(), run, {"train.epochs=1"})).code, 0);
  std::string csv = "a,b,c,d\n";
  for (int i = 0; i < 3000; ++i) csv += "1,2,3,4\n";
  write_bytes(folder_ / "long.csv", csv);
  write_bytes(folder_ / "short.csv", std::string_view("a,b,c,d\n1,2,3,4\n"));
  disk_.fill();
  const auto shell = [&](const std::vector<std::string>& args, const std::string& redirect) {
    std::string line = std::string("'") + ONPA_COMMAND + "'";
    for (const std::string& arg : args) line += " '" + arg + "'";
    const int status = std::system((line + " " + redirect).c_str());
    return WEXITSTATUS(status);
  };
  const std::string out =
      "> '" + (disk_ / "out").string() + "' 2> '" + (folder_ / "err").string() + "'";
  for (const char* input : {"long.csv", "short.csv"}) {
    EXPECT_EQ(shell({"predict", "--model", run.string(), (folder_ / input).string()}, out), 74);
    EXPECT_EQ(read_bytes(folder_ / "err"),
              "onpa: cannot write to standard output: No space left on device\n");
  }
  // A log that cannot be written must not stop the work.
  const std::string err = "2> '" + (disk_ / "err").string() + "'";
  const fs::path logged = folder_ / "logged";
  EXPECT_EQ(shell(dense_args(data(), logged, {"train.epochs=1"}), err), 0);
  expect_same_bits(run, logged);
}

}  // namespace
}  // namespace onpa::testing
