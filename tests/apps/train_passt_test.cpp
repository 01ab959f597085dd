// Training PaSST on generated mp3 files through the command, and using what comes out.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/loader.h"
#include "tensor/io/npy.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class TrainPasst : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    audio_data(*folder_ / "audio", 40).save(*folder_ / "data");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static fs::path path(const std::string& name) { return *folder_ / name; }
  static fs::path data() { return path("data"); }

  // 32 train clips in batches of 8, every random thing on.
  static std::vector<std::string> args(const std::string& name,
                                       const std::vector<std::string>& more = {}) {
    return args_on(data(), name, more);
  }
  static std::vector<std::string> args_on(const fs::path& data, const std::string& name,
                                          const std::vector<std::string>& more) {
    std::vector<std::string> set = {
        "model.preset=passt-xs", "data.seconds=0.4",       "train.epochs=3",
        "train.batch_size=8",    "train.log_steps=1",      "train.checkpoint_steps=3",
        "train.patchout_time=2", "train.patchout_freq=1",  "data.wave_mixup=0.5",
        "data.mixup_alpha=0.3",  "data.gain_low_db=-3",    "data.gain_high_db=3",
        "data.roll_samples=50",  "mel.freq_mask=8",        "mel.time_mask=10",
        "mel.fmin_range_hz=10",  "mel.fmax_range_hz=2000", "average.kind=ema",
        "average.ema_decay=0.9"};
    set.insert(set.end(), more.begin(), more.end());
    return train_args("passt", data, path(name), set);
  }
  static const std::string& whole_weights() {
    static const std::string weights = [] {
      const CommandResult result = run_command(args("whole"));
      EXPECT_EQ(result.code, 0) << result.err;
      return last_weights(path("whole"));
    }();
    return weights;
  }
  static void expect_like_whole(const std::string& name) {
    EXPECT_TRUE(whole_weights() == last_weights(path(name))) << name;
    const fs::path last = "checkpoints/last";
    for (const char* file : {"optim.safetensors", "swa.safetensors"}) {
      EXPECT_TRUE(read_bytes(path("whole") / last / file) == read_bytes(path(name) / last / file))
          << name << " " << file;
    }
  }

  // The step of a run's newest checkpoint.
  static int last_step(const std::string& name) {
    const std::string folder = fs::read_symlink(path(name) / "checkpoints/last").filename();
    return std::stoi(folder.substr(folder.find('_') + 1));
  }

  inline static std::unique_ptr<TempFolder> folder_;
};

TEST_F(TrainPasst, AnyNumberOfLoaderThreadsGivesTheSameBits) {
  for (const char* workers : {"0", "1", "4"}) {
    const std::string name = std::string("workers") + workers;
    const CommandResult result =
        run_command(args(name, {std::string("loader.workers=") + workers}));
    ASSERT_EQ(result.code, 0) << result.err;
    expect_like_whole(name);
  }
}

TEST_F(TrainPasst, ThreadsAndCacheGiveTheSameBits) {
  const CommandResult result = run_command(args("threads"), {{"ONPA_THREADS", "1"}});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_like_whole("threads");
  // Cached samples are rounded to 16 bits: the same cold and warm, not the same as uncached ones.
  const std::vector<std::string> cache = {"loader.cache_folder=" + path("cache").string()};
  ASSERT_EQ(run_command(args("cold", cache)).code, 0);
  ASSERT_EQ(run_command(args("warm", cache)).code, 0);
  EXPECT_TRUE(last_weights(path("cold")) == last_weights(path("warm")));
}

TEST_F(TrainPasst, StoppedAndResumedHasTheSameBits) {
  for (const int steps : {1, 4, 6, 11}) {
    const std::string name = "part" + std::to_string(steps);
    ASSERT_EQ(run_command(args(name, {"train.max_steps=" + std::to_string(steps)})).code, 0);
    const CommandResult resumed = run_command(args(name));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_like_whole(name);
  }
}

TEST_F(TrainPasst, RecomputationMayChangeAtAResumeAndKeepsTheBits) {
  ASSERT_EQ(run_command(args("lean", {"train.max_steps=4", "train.recompute=block"})).code, 0);
  ASSERT_EQ(run_command(args("lean", {"train.max_steps=7", "train.recompute=mlp"})).code, 0);
  const CommandResult resumed = run_command(args("lean", {"train.recompute=norm_gelu"}));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("train.recompute"), std::string::npos) << "the change is not logged";
  expect_like_whole("lean");
  const CommandResult unknown = run_command(args("unknown", {"train.recompute=blok"}));
  EXPECT_EQ(unknown.code, 78);
  EXPECT_NE(unknown.err.find("did you mean 'block'"), std::string::npos) << unknown.err;
}

TEST_F(TrainPasst, KilledOrSignalledAndResumedHasTheSameBits) {
  for (const int number : {SIGKILL, SIGTERM}) {
    for (const char* moment : {"step 1/", "step 5/"}) {
      const std::string name = "signal" + std::to_string(number) + std::string(moment).substr(5, 1);
      Command command(args(name));
      ASSERT_TRUE(command.wait_for(moment)) << command.err();
      command.send(number);
      const int code = command.wait().code;
      // A signal that comes after the last step finds a run that is done.
      EXPECT_TRUE(code == 0 || code == (number == SIGKILL ? 128 + SIGKILL : 75)) << code << "\n"
                                                                                 << command.err();
      const CommandResult resumed = run_command(args(name));
      ASSERT_EQ(resumed.code, 0) << resumed.err;
      expect_like_whole(name);
    }
  }
}

TEST_F(TrainPasst, KilledInsideACheckpointResumesWithTheSameBits) {
  for (const int operation : {2, 13, 40}) {
    const std::string name = "fault" + std::to_string(operation);
    const CommandResult killed = run_command(
        args(name), {{"ONPA_FAULT", "checkpoint:" + std::to_string(operation) + ":kill"}});
    EXPECT_EQ(killed.code, 128 + SIGKILL);
    ASSERT_EQ(run_command(args(name)).code, 0);
    expect_like_whole(name);
  }
}

// Copies the corpus and spoils some of its train files.
fs::path spoiled(const TempFolder& folder, const fs::path& audio, int bad_files) {
  fs::copy(audio, folder / "audio", fs::copy_options::recursive);
  data::DataSet data = feature_data(40);
  data.audio_root = folder / "audio";
  for (data::Track& track : data.tracks) {
    track.audio = track.id + ".mp3";
    if (bad_files > 0 && track.split == data::Split::kTrain) {
      write_bytes(folder / "audio" / track.audio, bad_files % 2 == 0 ? "" : "no audio at all\n");
      --bad_files;
    }
  }
  data.save(folder / "data");
  return folder / "data";
}

TEST_F(TrainPasst, BadFilesAreSkippedAndListed) {
  const TempFolder folder;
  const fs::path data = spoiled(folder, path("audio"), 3);
  const std::vector<std::string> tolerant = {"data.max_bad_fraction=0.2"};
  const CommandResult result = run_command(args_on(data, "bad", tolerant));
  ASSERT_EQ(result.code, 0) << result.err;
  const data::Table list = data::Table::read_csv(path("bad") / "bad_tracks.csv");
  EXPECT_EQ(list.rows(), 3);
  EXPECT_EQ(list.columns(), (std::vector<std::string>{"id", "path", "reason"}));

  // A run resumed between bad files has the same bits too.
  auto part = tolerant;
  part.push_back("train.max_steps=5");
  ASSERT_EQ(run_command(args_on(data, "bad_part", part)).code, 0);
  ASSERT_EQ(run_command(args_on(data, "bad_part", tolerant)).code, 0);
  EXPECT_TRUE(last_weights(path("bad")) == last_weights(path("bad_part")));
  EXPECT_EQ(data::Table::read_csv(path("bad_part") / "bad_tracks.csv").rows(), 3);
}

TEST_F(TrainPasst, TooManyBadFilesIs65AndKeepsTheCheckpoint) {
  const TempFolder folder;
  const fs::path data = spoiled(folder, path("audio"), 0);
  ASSERT_EQ(run_command(args_on(data, "over", {"train.max_steps=2"})).code, 0);
  for (int i = 0; i < 20; ++i) {
    write_bytes(folder / "audio" / ("track" + std::to_string(i) + ".mp3"), "gone bad");
  }
  const CommandResult result = run_command(args_on(data, "over", {}));
  EXPECT_EQ(result.code, 65) << result.err;
  EXPECT_TRUE(fs::exists(path("over") / "checkpoints" / "last" / "model.safetensors"));
  EXPECT_GE(data::Table::read_csv(path("over") / "bad_tracks.csv").rows(), 1);
}

TEST_F(TrainPasst, BadTestFilesAreListedToo) {
  const TempFolder folder;
  const fs::path data = spoiled(folder, path("audio"), 0);
  write_bytes(folder / "audio/track9.mp3", "gone bad");  // every fifth is a test track
  const CommandResult result = run_command(args_on(
      data, "bad_test", {"data.max_bad_fraction=0.2", "train.epochs=2", "train.max_steps=5"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const data::Table list = data::Table::read_csv(path("bad_test") / "bad_tracks.csv");
  ASSERT_EQ(list.rows(), 1);
  EXPECT_EQ(list.cell(0, 0), "track9");

  // Too many of them: the list is still written, and the steps before are kept.
  const CommandResult over = run_command(args_on(data, "over_test", {"train.epochs=1"}));
  EXPECT_EQ(over.code, 65) << over.err;
  EXPECT_EQ(data::Table::read_csv(path("over_test") / "bad_tracks.csv").rows(), 1);
  EXPECT_EQ(last_step("over_test"), 4);
}

TEST_F(TrainPasst, BadFilesInTheMiddleOfAnEpochKeepTheStepsBefore) {
  const TempFolder folder;
  const fs::path data = spoiled(folder, path("audio"), 0);
  // Two good batches of 8, then two bad files in the third: one is more than 1 % of 32.
  const std::vector<std::int64_t> train = feature_data(40).indices(data::Split::kTrain);
  const std::vector<std::int64_t> order = data::epoch_order(std::ssize(train), 5, 0, true);
  std::vector<fs::path> bad;
  for (const std::size_t at : {18u, 21u}) {
    const std::int64_t row = train[static_cast<std::size_t>(order[at])];
    bad.push_back("track" + std::to_string(row) + ".mp3");
    write_bytes(folder / "audio" / bad.back(), "gone bad");
  }
  // A mixup partner could be a bad file in an earlier batch.
  const auto run = [&](const std::string& name, const char* limit) {
    return run_command(
        args_on(data, name,
                {"train.seed=5", "data.wave_mixup=0", "train.epochs=1", "train.checkpoint_steps=0",
                 std::string("data.max_bad_fraction=") + limit}));
  };
  for (const char* name : {"repaired", "tolerated"}) {
    const CommandResult stopped = run(name, "0.01");
    EXPECT_EQ(stopped.code, 65) << stopped.err;
    EXPECT_EQ(last_step(name), 2);
    EXPECT_EQ(data::Table::read_csv(path(name) / "bad_tracks.csv").rows(), 1);
  }

  const CommandResult tolerated = run("tolerated", "0.1");
  ASSERT_EQ(tolerated.code, 0) << tolerated.err;
  EXPECT_EQ(last_step("tolerated"), 4);
  EXPECT_EQ(data::Table::read_csv(path("tolerated") / "bad_tracks.csv").rows(), 2);

  for (const fs::path& file : bad) {
    fs::copy_file(path("audio") / file, folder / "audio" / file,
                  fs::copy_options::overwrite_existing);
  }
  const CommandResult repaired = run("repaired", "0.01");
  ASSERT_EQ(repaired.code, 0) << repaired.err;
  EXPECT_EQ(last_step("repaired"), 4);
  // No track of the epoch was lost: as if the files had never been bad.
  ASSERT_EQ(run("never_bad", "0.01").code, 0);
  EXPECT_TRUE(last_weights(path("repaired")) == last_weights(path("never_bad")));
}

TEST_F(TrainPasst, DataSetWithoutAudioIs65) {
  const TempFolder folder;
  feature_data(20).save(folder / "data");
  EXPECT_EQ(run_command(args_on(folder / "data", "silent", {})).code, 65);
}

TEST_F(TrainPasst, PatchoutThatLeavesNothingIs78) {
  EXPECT_EQ(run_command(args("none", {"train.patchout_freq=5"})).code, 78);
}

TEST_F(TrainPasst, PredictEmbedAndMelKeepTheirContracts) {
  whole_weights();
  const std::string clip = (path("audio") / "track0.mp3").string();
  const std::string model = path("whole").string();
  const CommandResult predict = run_command({"predict", "--model", model, "--json", clip, clip});
  ASSERT_EQ(predict.code, 0) << predict.err;
  std::istringstream lines(predict.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json.at("input"), clip);
    EXPECT_DOUBLE_EQ(json.at("seconds").get<double>(), 0.5);  // gapless: what was encoded
    EXPECT_EQ(json.at("logits").size(), 1u);
    EXPECT_TRUE(json.at("prediction").is_number());
  }
  EXPECT_EQ(count, 2);

  // The weights file alone says as much as the run; without averages it is the live model.
  const fs::path weights = path("whole") / "checkpoints/last/swa.safetensors";
  EXPECT_EQ(run_command({"predict", "--model", weights.string(), "--json", clip, clip}).out,
            predict.out);

  const CommandResult folder = run_command({"predict", "--model", model, path("audio").string()});
  EXPECT_EQ(std::count(folder.out.begin(), folder.out.end(), '\n'), 40);

  const std::string features = path("features.npy").string();
  ASSERT_EQ(run_command({"embed", "--model", model, clip, clip, "--out", features}).code, 0);
  const Tensor embedded = io::read_npy(features);
  EXPECT_EQ(embedded.shape(), (Shape{2, 64}));
  EXPECT_EQ(embedded.dtype(), DType::kF32);

  const std::string mel = path("mel.npy").string();
  ASSERT_EQ(run_command({"mel", clip, "--out", mel}).code, 0);
  EXPECT_EQ(io::read_npy(mel).shape(), (Shape{128, 50}));
}

TEST_F(TrainPasst, BadInputsOfPredict) {
  whole_weights();
  const std::string model = path("whole").string();
  const std::string clip = (path("audio") / "track1.mp3").string();
  write_bytes(path("text.mp3"), "this is no audio\n");
  const CommandResult mixed =
      run_command({"predict", "--model", model, "--json", path("text.mp3").string(), clip});
  EXPECT_EQ(mixed.code, 65);
  EXPECT_EQ(std::count(mixed.out.begin(), mixed.out.end(), '\n'), 1);  // the good one
  EXPECT_NE(mixed.err.find("text.mp3"), std::string::npos);
  write_bytes(path("junk.safetensors"), "junk");
  const CommandResult junk =
      run_command({"predict", "--model", path("junk.safetensors").string(), clip});
  EXPECT_EQ(junk.code, 83);
  EXPECT_NE(junk.err.find("not a safetensors file"), std::string::npos) << junk.err;
  write_bytes(path("rows.csv"), "a,b\n1,2\n");
  const CommandResult table =
      run_command({"predict", "--model", model, clip, path("rows.csv").string()});
  EXPECT_EQ(table.code, 64) << table.err;
  EXPECT_NE(table.err.find("a passt model takes audio files"), std::string::npos) << table.err;
  EXPECT_EQ(table.out, "");
  const std::string out = path("x.npy").string();
  EXPECT_EQ(run_command({"mel", path("audio").string(), "--out", out}).code, 65);
  const std::string lost = path("none/x.npy").string();
  const CommandResult nowhere = run_command({"mel", clip, "--out", lost});
  EXPECT_EQ(nowhere.code, 73);
  EXPECT_NE(nowhere.err.find("cannot create " + lost + ":"), std::string::npos) << nowhere.err;
  EXPECT_EQ(run_command({"embed", "--model", model, path("text.mp3").string(), "--out",
                         path("x.npy").string()})
                .code,
            65);
}

TEST_F(TrainPasst, ModelCardSaysWhichWeightsAreUsed) {
  whole_weights();
  const CommandResult result = run_command({"inspect", path("whole").string()});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("weights: as of step 12;"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("checkpoints/best is picked on the test split"), std::string::npos);
}

TEST_F(TrainPasst, EvalWritesTheTables) {
  whole_weights();
  const CommandResult result =
      run_command({"eval", "--run", path("whole").string(), "--by", "genre"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto table1 = nlohmann::json::parse(read_bytes(path("whole") / "table1.json"));
  EXPECT_EQ(table1["rows"][0]["model"], "passt");
  EXPECT_EQ(table1["rows"][0]["n"], 8);
}

}  // namespace
}  // namespace onpa::testing
