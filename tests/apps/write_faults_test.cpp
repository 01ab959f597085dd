// Every kind of file that onpa writes, with the disk full at each operation in turn (ONPA_FAULT).
// full_disk_test.cpp does the same on a real file system, where the machine allows it.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/apps/disk_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class WriteFaults : public ::testing::Test {
 protected:
  void SetUp() override { feature_data(400).save(data()); }
  fs::path data() const { return folder_ / "data"; }
  fs::path run(const std::string& name) const { return folder_ / name; }
  std::vector<std::string> args(const std::string& name,
                                const std::vector<std::string>& more = {}) const {
    return dense_args(data(), run(name), more);
  }
  CommandResult train(const std::string& name, const std::string& fault = "",
                      const std::vector<std::string>& more = {}) const {
    return run_command(args(name, more), {{"ONPA_FAULT", fault}});
  }

  // Runs `args` with the disk full at some of the `count` operations on files of `kind`. Each
  // failure must end with 73 or 74, name a file and the reason, leave no temporary, and pass
  // `check`.
  void fail_at(const std::string& kind, int count, const std::vector<int>& operations,
               const std::function<std::vector<std::string>()>& args,
               const std::function<void(int, const CommandResult&)>& check) const {
    for (const int operation : operations) {
      const std::string fault = kind + ":" + std::to_string(operation) + ":enospc";
      const CommandResult result = run_command(args(), {{"ONPA_FAULT", fault}});
      EXPECT_TRUE(result.code == 73 || result.code == 74) << fault << result.code << result.err;
      EXPECT_TRUE(says(result, ": No space left on device\n")) << fault << result.err;
      EXPECT_TRUE(says(result, folder_.path().string())) << fault << result.err;
      EXPECT_EQ(leftovers(folder_.path()), std::vector<std::string>()) << fault;
      check(operation, result);
    }
    const std::string none = kind + ":" + std::to_string(count + 1) + ":enospc";
    EXPECT_EQ(run_command(args(), {{"ONPA_FAULT", none}}).code, 0) << "more operations on " << kind;
  }

  const TempFolder folder_{quick_parent()};
};

TEST_F(WriteFaults, AMomentWithoutRoomCostsNoMetrics) {
  ASSERT_EQ(train("whole").code, 0);
  // A failed sync is made up for in silence; a failed write is warned of.
  for (const std::string fault : {"metrics:2:enospc", "metrics:9:eio", "metrics:45:enospc",
                                  "events:3:enospc", "events:10:eio"}) {
    fs::remove_all(run("a"));
    const CommandResult result = train("a", fault);
    ASSERT_EQ(result.code, 0) << fault << result.err;
    const std::string file = fault[0] == 'm' ? "/metrics.jsonl: " : "/events.out.tfevents.";
    EXPECT_EQ(says(result, "onpa: warning: cannot write " + run("a").string() + file),
              fault.ends_with("enospc"))
        << fault << result.err;
    expect_same_run(run("whole"), run("a"));
    EXPECT_EQ(event_records(run("a")), event_records(run("whole"))) << fault;
  }
}

// The lines that could not be written are in the checkpoint, so that not even they are lost.
TEST_F(WriteFaults, MetricsThatStayFullAre74AndWrittenOnResume) {
  for (const std::string stop : {"train.max_steps=0", "train.max_steps=18"}) {
    const std::string whole = "whole" + stop;
    ASSERT_EQ(train(whole, "", {stop}).code, 0);
    ASSERT_EQ(train(whole).code, 0);
    fs::remove_all(run("a"));
    const CommandResult full = train("a", "metrics:14+:enospc", {stop});
    ASSERT_EQ(full.code, 74) << full.err;
    EXPECT_TRUE(says(full, "error: not all metrics are written: cannot "));
    EXPECT_TRUE(says(full, (run("a") / "metrics.jsonl").string() + ": No space left on device"))
        << full.err;
    EXPECT_LT(steps_of(run("a")).size(), 14u);  // whole lines, nothing torn
    ASSERT_EQ(train("a").code, 0);
    expect_same_run(run(whole), run("a"));
    ASSERT_EQ(train("a").code, 0);  // nothing comes twice
    expect_same_run(run(whole), run("a"));
  }
}

TEST_F(WriteFaults, EventsThatStayFullAre74AndWhole) {
  ASSERT_EQ(train("whole").code, 0);
  const CommandResult full = train("a", "events:12+:enospc");
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_GT(event_records(run("a")), 1);
  EXPECT_LT(event_records(run("a")), event_records(run("whole")));
  expect_same_run(run("whole"), run("a"));
  EXPECT_EQ(train("a").code, 0);
}

// Every checkpoint from some moment on, and the metrics too.
TEST_F(WriteFaults, CheckpointsThatStayFullAre74AndResumable) {
  ASSERT_EQ(train("whole").code, 0);
  for (const char* fault : {"checkpoint:1+:enospc", "checkpoint:60+:enospc"}) {
    fs::remove_all(run("a"));
    const CommandResult full = train("a", fault);
    ASSERT_EQ(full.code, 74) << full.err;
    EXPECT_TRUE(says(full, "error: the last checkpoint could not be written to ")) << full.err;
    EXPECT_EQ(leftovers(run("a")), std::vector<std::string>());
    ASSERT_EQ(train("a").code, 0);
    expect_same_run(run("whole"), run("a"));
  }
}

// A kill in the middle of a line: what the next run finds is half a line.
TEST_F(WriteFaults, KilledWhileLoggingResumesWithTheSameBits) {
  ASSERT_EQ(train("whole").code, 0);
  for (const char* fault : {"metrics:12:kill", "events:25:kill"}) {
    fs::remove_all(run("a"));
    ASSERT_EQ(train("a", fault).code, 128 + SIGKILL);
    write_bytes(run("a") / "metrics.jsonl", read_bytes(run("a") / "metrics.jsonl") + "{\"step\":1");
    ASSERT_EQ(train("a").code, 0);
    expect_same_run(run("whole"), run("a"));
  }
}

// Settings, environment, lock, log files: what is written before the first step of a fresh run and
// of one that goes on.
TEST_F(WriteFaults, ARunThatCannotBeginLosesNothing) {
  ASSERT_EQ(train("whole").code, 0);
  ASSERT_EQ(train("part", "", {"train.max_steps=18"}).code, 0);
  const std::string checkpoint = last_weights(run("part"));
  const auto copy = [&] {
    fs::remove_all(run("a"));
    fs::copy(run("part"), run("a"), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    return args("a");
  };
  // Folder, lock (two), and six each for two files.
  fail_at("run", 3 + 2 * 6, {1, 3, 4, 5, 8, 13, 15}, copy, [&](int operation, const auto&) {
    EXPECT_TRUE(last_weights(run("a")) == checkpoint) << operation;
    if (operation != 3 && operation != 8) return;
    const CommandResult resumed = run_command(args("a"));
    EXPECT_EQ(resumed.code, 0) << operation << resumed.err;
    expect_same_bits(run("whole"), run("a"));
  });
  for (const char* fault : {"metrics:1:enospc", "events:1:enospc"}) {
    const CommandResult result = train("b", fault);
    EXPECT_EQ(result.code, 73) << result.err;
    EXPECT_TRUE(says(result, "onpa: cannot create " + (run("b") / "").string())) << result.err;
    EXPECT_TRUE(says(result, ": No space left on device")) << result.err;
  }
}

TEST_F(WriteFaults, EvaluationShowsWhatItCannotWrite) {
  ASSERT_EQ(train("a").code, 0);
  const std::vector<std::string> eval = {"eval", "--run", run("a").string()};
  const CommandResult whole = run_command(eval);
  ASSERT_EQ(whole.code, 0) << whole.err;
  const auto before = all_files(run("a"));
  // The folder, seven files (create, write, sync, close), seven times rename and sync of the
  // folder.
  fail_at(
      "tables", 1 + 7 * 6, {1, 2, 3, 5, 28, 29, 30, 43}, [&] { return eval; },
      [&](int operation, const CommandResult& result) {
        EXPECT_EQ(result.out, whole.out) << operation;
        EXPECT_TRUE(all_files(run("a")) == before) << operation;
      });
  // Without older tables: a full disk leaves none of the new ones.
  for (const char* fault : {"tables:20:enospc", "tables:29:enospc"}) {
    const fs::path out = folder_ / "out";
    EXPECT_EQ(run_command({"eval", "--run", run("a").string(), "--out", out.string()},
                          {{"ONPA_FAULT", fault}})
                  .code,
              74);
    EXPECT_TRUE(all_files(out).empty()) << fault;
  }
}

TEST_F(WriteFaults, PrepareKeepsTheOldDataSet) {
  std::string csv = "track_id,popularity,energy,tempo\n";
  for (int i = 0; i < 50; ++i) {
    csv += "t" + std::to_string(i) + "," + std::to_string(i * 2) + ",.1,120\n";
  }
  write_bytes(folder_ / "tracks.csv", csv);
  const auto prepare = [&](const char* out, const char* seed) {
    return std::vector<std::string>{"prepare",
                                    "--csv",
                                    (folder_ / "tracks.csv").string(),
                                    "--out",
                                    (folder_ / out).string(),
                                    "--seed",
                                    seed,
                                    "--features",
                                    "energy,tempo"};
  };
  const CommandResult first = run_command(prepare("old", "1"));
  ASSERT_EQ(first.code, 0) << first.err;
  const auto old_files = all_files(folder_ / "old");
  const auto again = [&] {
    fs::remove_all(folder_ / "now");
    fs::copy(folder_ / "old", folder_ / "now");
    return prepare("now", "2");
  };
  // The new files are on the disk after operation 9; from there on only a rename could fail, and a
  // data set of which half is new is none.
  fail_at("data", 1 + 2 * 6, {1, 2, 3, 5, 6, 9, 10, 12, 13}, again,
          [&](int operation, const CommandResult&) {
            const auto files = all_files(folder_ / "now");
            EXPECT_TRUE(operation > 9 || files == old_files) << operation;
            EXPECT_EQ(files.contains("card.json"), operation <= 9 || operation == 13) << operation;
          });
}

TEST_F(WriteFaults, ArraysAreWholeOrAbsent) {
  audio_data(folder_ / "audio", 10).save(folder_ / "clips");
  const CommandResult trained =
      run_command(passt_args(folder_ / "clips", run("p"), {"train.max_steps=1"}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  const std::string clip = (folder_ / "audio/track0.mp3").string(), out = run("x.npy").string();
  const std::vector<std::string> mel = {"mel", clip, "--out", out},
                                 embed = {"embed", "--model", run("p").string(),
                                          clip,    "--out",   out};
  const auto check = [&](int last) {
    return [&, last](int operation, const CommandResult&) {
      // The sync of the folder comes after the rename.
      EXPECT_EQ(fs::exists(out), operation == last) << operation;
      fs::remove(out);
    };
  };
  fail_at(
      "npy", 7, {1, 2, 3, 5, 6, 7}, [&] { return mel; }, check(7));
  fs::remove(out);
  // embed asks for room before the work.
  fail_at(
      "npy", 10, {1, 2, 4, 6, 9}, [&] { return embed; }, check(10));
}

// Loader threads write the cache; a track that is not cached is decoded again.
TEST_F(WriteFaults, AFullCacheCostsOnlyAWarning) {
  audio_data(folder_ / "audio", 20).save(folder_ / "clips");
  const auto args = [&](const char* name) {
    return passt_args(folder_ / "clips", run(name),
                      {"train.max_steps=4",
                       std::string("loader.cache_folder=") + (folder_ / "cache").string() + name});
  };
  ASSERT_EQ(run_command(args("whole")).code, 0);
  const CommandResult full = run_command(args("full"), {{"ONPA_FAULT", "cache:1+:enospc"}});
  ASSERT_EQ(full.code, 0) << full.err;
  const std::size_t at = full.err.find("warning: PCM cache: cannot create ");
  EXPECT_NE(at, std::string::npos) << full.err;
  EXPECT_TRUE(says(full, "No space left on device; what is not cached")) << full.err;
  EXPECT_EQ(full.err.find("PCM cache", at + 20), std::string::npos) << "said twice";
  expect_same_run(run("whole"), run("full"));
  EXPECT_EQ(all_files(folder_ / "cachefull").size(), 0u);
}

// A track list that cannot be written must not hide the run's own end.
TEST_F(WriteFaults, UnwrittenBadTracksAre74) {
  data::DataSet clips = audio_data(folder_ / "audio", 20);
  write_bytes(folder_ / "audio" / clips.tracks[0].audio, std::string_view("no audio"));
  clips.save(folder_ / "clips");
  const auto args = [&](const char* name) {
    return passt_args(folder_ / "clips", run(name),
                      {"train.max_steps=2", "data.max_bad_fraction=0.5"});
  };
  ASSERT_EQ(run_command(args("whole")).code, 0);
  ASSERT_TRUE(fs::exists(run("whole") / "bad_tracks.csv"));
  const CommandResult full = run_command(args("full"), {{"ONPA_FAULT", "run:16+:enospc"}});
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_TRUE(says(full, "bad_tracks.csv: No space left on device")) << full.err;
  EXPECT_TRUE(says(full, "track0.mp3")) << full.err;
  expect_same_run(run("whole"), run("full"));
}

TEST_F(WriteFaults, TheDemosCorpusKeepsItsClips) {
  const fs::path demo = folder_ / "demo";
  const CommandResult result =
      run_command({"demo", "--out", demo.string()}, {{"ONPA_FAULT", "corpus:40+:enospc"}});
  EXPECT_EQ(result.code == 73 || result.code == 74, true) << result.code;
  // Clips are written by several threads: which operation comes 40th, on a clip or its folder,
  // varies.
  EXPECT_TRUE(says(result, "corpus/audio")) << result.err;
  EXPECT_TRUE(says(result, "No space left on device")) << result.err;
  EXPECT_EQ(leftovers(demo), std::vector<std::string>());
  int clips = 0;
  for (const auto& [name, bytes] : all_files(demo)) clips += name.ends_with(".mp3");
  EXPECT_GE(clips, 4);
  EXPECT_FALSE(fs::exists(demo / "corpus/corpus.json"));
  const CommandResult folder =
      run_command({"demo", "--out", demo.string()}, {{"ONPA_FAULT", "demo:1:enospc"}});
  EXPECT_EQ(folder.code, 73) << folder.err;
}

}  // namespace
}  // namespace onpa::testing
