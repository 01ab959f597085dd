// Several ranks with a simulated GPU each train what one does: processes of the command, built for
// the simulator, that meet over TCP.
#include <gtest/gtest.h>

#include <iterator>
#include <list>
#include <memory>

#include "tests/apps/ranks_support.h"
#include "tests/apps/run_command.h"
#include "tests/apps/train_support.h"

#ifdef ONPA_SIM_COMMAND  // where there is NCCL to stand in for

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

// Sums in another order are all that the number of ranks may change.
constexpr double kBound = 2e-6;

class TrainGpuRanks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    feature_data(100).save(*folder_ / "rows");  // 80 to train on
    audio_data(*folder_ / "audio", 20).save(*folder_ / "clips");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static fs::path path(const std::string& name) { return *folder_ / name; }

  // `size` processes that train; alone, it is told nothing of ranks.
  static std::list<Command> start(int size, const std::string& kind, const std::string& run,
                                  const std::vector<std::string>& set) {
    std::vector<std::string> args = {
        "train", kind,      "--data",   path(kind == "passt" ? "clips" : "rows"),
        "--run", path(run), "--device", "cuda"};
    for (const std::string& setting : set) args.insert(args.end(), {"--set", setting});
    return start_ranks(ONPA_SIM_COMMAND, size, args);
  }

  static std::vector<CommandResult> train(int size, const std::string& kind, const std::string& run,
                                          const std::vector<std::string>& set) {
    std::list<Command> commands = start(size, kind, run, set);
    return ends_of(commands);
  }

  static void expect_like_one_rank(int size, const std::string& kind, const std::string& name,
                                   const std::vector<std::string>& set) {
    for (const int ranks : {1, size}) {
      for (const auto& result : train(ranks, kind, name + std::to_string(ranks), set)) {
        ASSERT_EQ(result.code, 0) << ranks << " ranks\n" << result.err;
      }
    }
    const fs::path one = path(name + "1"), several = path(name + std::to_string(size));
    EXPECT_LT(weight_difference(one, several), kBound);
    EXPECT_EQ(last_step(one), last_step(several));
  }

  inline static std::unique_ptr<TempFolder> folder_;
};

std::vector<std::string> dense(const std::vector<std::string>& more = {}) {
  std::vector<std::string> set = small_dense({"optim.eps=1e-3", "train.lr=0.01"});
  set.insert(set.end(), more.begin(), more.end());
  return set;
}

// The last batch of an epoch is short.
TEST_F(TrainGpuRanks, DenseHasTheWeightsOfOneRank) {
  expect_like_one_rank(3, "dense", "dense", dense());
}

// Three batches an epoch: a step of two and one of one, whose sums begin after it.
TEST_F(TrainGpuRanks, AccumulatedGradientsAreSummedOnce) {
  expect_like_one_rank(2, "dense", "accumulated", dense({"train.accumulate=2"}));
}

// Batches of two for three ranks, and a last one of one row.
TEST_F(TrainGpuRanks, ARankMayHaveNothing) {
  expect_like_one_rank(3, "dense", "few", dense({"train.batch_size=2", "train.epochs=1"}));
}

TEST_F(TrainGpuRanks, PasstHasTheWeightsOfOneRank) {
  expect_like_one_rank(2, "passt", "passt",
                       small_passt({"train.precision=f32", "train.epochs=2", "train.lr=1e-3"}));
}

TEST_F(TrainGpuRanks, MomentsInPartsGiveTheSameBits) {
  for (const std::string precision : {"f32", "bf16"}) {
    const std::string whole = "whole_" + precision, parts = "parts_" + precision;
    const auto with = [&](const char* shard) {
      return dense({"train.precision=" + precision, shard, "train.max_steps=6"});
    };
    for (const auto& result : train(2, "dense", whole, with("train.shard_optimizer=false"))) {
      ASSERT_EQ(result.code, 0) << result.err;
    }
    for (const auto& result : train(2, "dense", parts, with("train.shard_optimizer=true"))) {
      ASSERT_EQ(result.code, 0) << result.err;
    }
    for (const char* file : {"model", "optim"}) {
      EXPECT_TRUE(last_tensors(path(whole), file) == last_tensors(path(parts), file))
          << precision << " " << file;
    }
  }
}

TEST_F(TrainGpuRanks, Bf16Trains) {
  for (const auto& result : train(2, "dense", "bf16", dense({"train.precision=bf16"}))) {
    EXPECT_EQ(result.code, 0) << result.err;
  }
  EXPECT_GT(last_step(path("bf16")), 0);
}

// Others would wait for its sums for ever, on the GPU.
TEST_F(TrainGpuRanks, ALostRankEndsTheJob) {
  std::list<Command> commands = start(3, "dense", "lost", dense({"train.epochs=100000"}));
  ASSERT_TRUE(commands.front().wait_for("step 20/")) << commands.front().err();
  std::next(commands.begin())->send(SIGKILL);
  const auto ends = ends_of(commands);
  EXPECT_EQ(ends[0].code, 75) << ends[0].err;
  EXPECT_EQ(ends[1].code, 128 + SIGKILL);
  EXPECT_EQ(ends[2].code, 75) << ends[2].err;
}

// A signal to one is for all, and the run goes on as if it had never stopped.
TEST_F(TrainGpuRanks, StopTogetherAndGoOn) {
  const auto set = dense({"train.max_steps=300", "train.epochs=1000"});
  for (const auto& result : train(2, "dense", "whole", set)) ASSERT_EQ(result.code, 0);
  std::list<Command> commands = start(2, "dense", "stopped", set);
  ASSERT_TRUE(commands.front().wait_for("step 20/")) << commands.front().err();
  commands.back().send(SIGTERM);
  for (const auto& result : ends_of(commands)) ASSERT_EQ(result.code, 75) << result.err;
  const int step = last_step(path("stopped"));
  EXPECT_GE(step, 20);
  EXPECT_LT(step, 300);
  for (const auto& result : train(2, "dense", "stopped", set)) ASSERT_EQ(result.code, 0);
  EXPECT_EQ(weight_difference(path("whole"), path("stopped")), 0);
}

}  // namespace
}  // namespace onpa::testing

#endif
