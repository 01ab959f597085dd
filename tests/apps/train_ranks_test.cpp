// Several ranks train what one does. Here they are threads of this process.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/support/log.h"
#include "apps/training/rank_agreement.h"
#include "apps/training/trainer.h"
#include "dist/local.h"
#include "kernels/error.h"
#include "tests/apps/ranks_support.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

// Sums in another order are all that the number of ranks may change.
constexpr double kBound = 1e-6;

class TrainRanks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<testing::TempFolder>();
    testing::audio_data(*folder_ / "audio", 40).save(*folder_ / "clips");
    testing::feature_data(400).save(*folder_ / "rows");
    set_up_log(true);
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static fs::path path(const std::string& name) { return *folder_ / name; }

  static TrainOptions options(const std::string& kind, const std::string& run,
                              const std::vector<std::string>& set) {
    TrainOptions out;
    out.config = load_config(kind, {}, set);
    out.data = path(kind == "passt" ? "clips" : "rows");
    out.run = path(run);
    out.device = "cpu";
    out.quiet = true;
    return out;
  }

  // Trains on `size` ranks; all have to come to the same exit code.
  static int train_on(int size, const TrainOptions& options) {
    const data::DataSet data = data::DataSet::load(options.data);
    std::vector<int> codes(static_cast<std::size_t>(size), -1);
    dist::run_local(size, [&](dist::Comm& comm) {
      Ranks ranks(comm);
      codes[static_cast<std::size_t>(comm.rank())] = train(options, data, ranks);
    });
    for (const int code : codes) EXPECT_EQ(code, codes[0]);
    return codes[0];
  }

  // Runs of each number of ranks give the weights of one, and its averages.
  static void expect_like_one_rank(const std::string& kind, const std::string& name,
                                   const std::vector<int>& sizes,
                                   const std::vector<std::string>& set) {
    ASSERT_EQ(train(options(kind, name + "1", set)), 0);
    for (const int size : sizes) {
      const std::string run = name + std::to_string(size);
      ASSERT_EQ(train_on(size, options(kind, run, set)), 0);
      const bool averaged = fs::exists(path(name + "1") / "checkpoints/last/swa.safetensors");
      for (const char* file : {"model", averaged ? "swa" : "model"}) {
        EXPECT_LT(testing::weight_difference(path(name + "1"), path(run), file), kBound)
            << size << " ranks, " << file;
      }
      EXPECT_EQ(testing::last_step(path(name + "1")), testing::last_step(path(run)));
    }
  }

  // The value of `key` in each line of metrics that has it.
  static std::vector<double> values_of(const std::string& run, const std::string& key) {
    std::vector<double> out;
    std::istringstream in(testing::read_bytes(path(run) / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains(key)) out.push_back(json[key].get<double>());
    }
    return out;
  }

  inline static std::unique_ptr<testing::TempFolder> folder_;
};

TEST_F(TrainRanks, PasstHasTheWeightsOfOneRank) {
  expect_like_one_rank("passt", "passt", {2, 4}, testing::small_passt({"train.max_steps=10"}));
  const std::vector<double> one = values_of("passt1", "loss"), four = values_of("passt4", "loss");
  ASSERT_EQ(one.size(), 10u);
  ASSERT_EQ(four.size(), 10u);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], four[i], 1e-5);
  // Every test track counts once.
  ASSERT_EQ(values_of("passt4", "test_rmse").size(), values_of("passt1", "test_rmse").size());
  EXPECT_NEAR(values_of("passt4", "test_rmse").back(), values_of("passt1", "test_rmse").back(),
              1e-5);
}

TEST_F(TrainRanks, DenseHasTheWeightsOfOneRank) {
  expect_like_one_rank("dense", "dense", {2, 4},
                       testing::small_dense({"train.max_steps=10", "train.eval_epochs=1"}));
}

// 32 clips in batches of 7, so that the last has 4, on 3 ranks; and with 2 clips for 4 ranks.
TEST_F(TrainRanks, UnevenPartsAndFewerItemsThanRanks) {
  expect_like_one_rank("passt", "uneven", {3},
                       testing::small_passt({"train.epochs=2", "train.batch_size=7"}));
  expect_like_one_rank("passt", "few", {4},
                       testing::small_passt({"train.max_steps=5", "train.batch_size=2"}));
  expect_like_one_rank("dense", "rows_uneven", {3},
                       testing::small_dense({"train.batch_size=101", "train.epochs=2"}));
  expect_like_one_rank("dense", "rows_few", {5},
                       testing::small_dense({"train.batch_size=3", "train.max_steps=8"}));
}

// Ten batches an epoch in steps of three, so that the last has one.
TEST_F(TrainRanks, AccumulationReducesOnceAStep) {
  expect_like_one_rank("dense", "accumulated", {2, 4},
                       testing::small_dense({"train.accumulate=3", "train.epochs=2"}));
  expect_like_one_rank(
      "passt", "accumulated_clips", {3},
      testing::small_passt({"train.accumulate=3", "train.batch_size=6", "train.epochs=2"}));
}

// The Comm of a rank that hears of its all_reduces of `dtype`, `length` long if that is above 0.
class HeardComm : public dist::Comm {
 public:
  using Hear = std::function<void(int call, const Tensor& x)>;
  HeardComm(dist::Comm& inner, DType dtype, std::int64_t length)
      : Comm(inner.rank(), inner.size()), inner_(inner), dtype_(dtype), length_(length) {}
  Hear before, after;

  void send_note(int to, const std::string& text) override { inner_.send_note(to, text); }
  std::vector<dist::Note> take_notes() override { return inner_.take_notes(); }
  void abort(int code) override { inner_.abort(code); }

 protected:
  dist::Work start(dist::Collective c) override {
    using Kind = dist::Collective::Kind;
    if (c.kind == Kind::kBroadcast) return inner_.start_broadcast(c.in, c.root);
    if (c.kind == Kind::kAllGather) return inner_.start_all_gather(c.in, c.out);
    if (c.kind == Kind::kReduceScatter) return inner_.start_reduce_scatter(c.in, c.out, c.op);
    if (c.kind == Kind::kBarrier) {
      inner_.barrier();
      return {};
    }
    if (c.in.dtype() != dtype_ || (length_ > 0 && c.in.numel() != length_)) {
      return inner_.start_all_reduce(c.in, c.op);
    }
    if (before) before(calls_, c.in);
    inner_.all_reduce(c.in, c.op);
    if (after) after(calls_, c.in);
    ++calls_;
    return {};
  }

 private:
  dist::Comm& inner_;
  DType dtype_;
  std::int64_t length_;
  int calls_ = 0;
};

// A micro-batch more costs no collective.
TEST_F(TrainRanks, MicroBatchesShareOneReduction) {
  std::vector<std::uint64_t> calls;
  for (const char* accumulate : {"train.accumulate=1", "train.accumulate=3"}) {
    const TrainOptions o =
        options("dense", "calls" + std::to_string(calls.size()),
                testing::small_dense({accumulate, "train.max_steps=3", "train.hash_steps=0"}));
    const data::DataSet data = data::DataSet::load(o.data);
    dist::run_local(2, [&](dist::Comm& comm) {
      Ranks ranks(comm);
      EXPECT_EQ(train(o, data, ranks), 0);
      if (comm.rank() == 0) calls.push_back(comm.calls().count);
    });
  }
  EXPECT_EQ(calls[0], calls[1]);
}

TEST_F(TrainRanks, WeightsThatComeApartEndTheJobAndAreNotSaved) {
  const TrainOptions o = options(
      "dense", "apart", testing::small_dense({"train.hash_steps=5", "train.checkpoint_steps=4"}));
  const data::DataSet data = data::DataSet::load(o.data);
  std::vector<std::string> texts(3);
  dist::run_local(3, [&](dist::Comm& comm) {
    HeardComm heard(comm, DType::kF32, 0);
    heard.after = [&](int call, const Tensor& gradient) {  // of one bucket, so one a step
      if (call == 6 && comm.rank() == 1) gradient.data<float>()[0] += 1;
    };
    Ranks ranks(heard);
    try {
      train(o, data, ranks);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kDevice);
      texts[static_cast<std::size_t>(comm.rank())] = error.what();
    }
  });
  for (const std::string& text : texts) {
    EXPECT_EQ(text.find("rank 1: not the weights of the other ranks at step 8"), 0u) << text;
  }
  EXPECT_EQ(testing::last_step(path("apart")), 4);
}

// The loss of one rank is not finite in one step: none learns from it.
TEST_F(TrainRanks, WhatIsNotFiniteOnOneRankIsSkippedByAll) {
  const TrainOptions o = options("dense", "skipped", testing::small_dense({"train.max_steps=8"}));
  const data::DataSet data = data::DataSet::load(o.data);
  dist::run_local(3, [&](dist::Comm& comm) {
    HeardComm heard(comm, DType::kF64, 2);
    heard.before = [&](int call, const Tensor& sums) {
      if (call == 4 && comm.rank() == 2) sums.data<double>()[0] = std::nan("");
    };
    Ranks ranks(heard);
    EXPECT_EQ(train(o, data, ranks), 0);  // which compares the weights before it saves them
  });
  std::istringstream in(testing::read_bytes(path("skipped") / "metrics.jsonl"));
  int line = 0;
  for (std::string text; std::getline(in, text) && line < 8; ++line) {
    EXPECT_EQ(nlohmann::json::parse(text)["loss"].is_null(), line == 4) << text;
  }
  EXPECT_EQ(line, 8);
}

TEST_F(TrainRanks, ResumesAtAnyNumberOfRanks) {
  const auto set = testing::small_passt({"train.epochs=2"});
  auto part = set;
  part.push_back("train.max_steps=3");
  ASSERT_EQ(train_on(2, options("passt", "straight", set)), 0);
  for (const int size : {2, 1, 3}) {
    const std::string run = "resumed" + std::to_string(size);
    ASSERT_EQ(train_on(2, options("passt", run, part)), 0);
    ASSERT_EQ(testing::last_step(path(run)), 3);
    ASSERT_EQ(train_on(size, options("passt", run, set)), 0);
    EXPECT_EQ(testing::last_step(path(run)), testing::last_step(path("straight")));
    EXPECT_LT(testing::weight_difference(path("straight"), path(run)), kBound) << size;
    if (size == 2) {
      EXPECT_TRUE(testing::last_weights(path("straight")) == testing::last_weights(path(run)));
    }
  }
}

// Every element of the moments is worked out on one rank as it would be on all.
TEST_F(TrainRanks, MomentsInPartsGiveTheSameBits) {
  const auto with = [](std::vector<std::string> set, const std::string& more) {
    set.push_back(more);
    return set;
  };
  const auto passt = testing::small_passt({"train.max_steps=6", "optim.clip_norm=0.5"});
  const auto dense = testing::small_dense({"optim.kind=sgd"});
  for (const auto& [kind, set] : {std::pair("passt", passt), std::pair("dense", dense)}) {
    const std::string whole = std::string("whole_") + kind, parts = std::string("parts_") + kind;
    ASSERT_EQ(train_on(3, options(kind, whole, set)), 0);
    ASSERT_EQ(train_on(3, options(kind, parts, with(set, "train.shard_optimizer=true"))), 0);
    for (const char* file : {"model", "optim"}) {
      EXPECT_TRUE(testing::last_tensors(path(whole), file) ==
                  testing::last_tensors(path(parts), file))
          << kind << " " << file;
    }
  }
}

// Six steps, each of which hands the new weights out, and one save, which puts two moments
// together.
TEST_F(TrainRanks, MomentsInPartsAreWhatTheSettingAsksFor) {
  const data::DataSet data = data::DataSet::load(path("clips"));
  std::vector<std::uint64_t> calls;
  for (const char* set : {"train.shard_optimizer=false", "train.shard_optimizer=true"}) {
    const auto run = options("passt", std::string("asked") + set,
                             testing::small_passt({"train.max_steps=6", set}));
    dist::run_local(2, [&](dist::Comm& comm) {
      Ranks ranks(comm);
      EXPECT_EQ(train(run, data, ranks), 0);
      if (comm.rank() == 0) calls.push_back(comm.calls().count);
    });
  }
  EXPECT_EQ(calls[1], calls[0] + 6 + 2);
}

TEST_F(TrainRanks, MomentsInPartsResumeAtAnyNumberOfRanks) {
  const auto set = testing::small_passt({"train.epochs=2", "train.shard_optimizer=true"});
  auto part = set, alone = set;
  part.push_back("train.max_steps=3");
  alone.push_back("train.shard_optimizer=false");
  ASSERT_EQ(train_on(2, options("passt", "parts_straight", set)), 0);
  for (const int size : {2, 1, 3}) {
    const std::string run = "parts_resumed" + std::to_string(size);
    ASSERT_EQ(train_on(2, options("passt", run, part)), 0);
    ASSERT_EQ(train_on(size, options("passt", run, size == 1 ? alone : set)), 0);
    EXPECT_LT(testing::weight_difference(path("parts_straight"), path(run)), kBound) << size;
    EXPECT_LT(testing::weight_difference(path("parts_straight"), path(run), "optim"), kBound);
    if (size == 2) {
      EXPECT_TRUE(testing::last_weights(path("parts_straight")) ==
                  testing::last_weights(path(run)));
    }
  }
}

TEST_F(TrainRanks, ManyRanksTrainAndEvaluate) {
  const auto set = testing::small_passt({"train.epochs=1", "train.batch_size=16"});
  expect_like_one_rank("passt", "many", {24}, set);
  EXPECT_EQ(values_of("many24", "test_rmse").size(), 1u);
}

// What train() throws on each rank: code and text, and whether it is told of another.
struct Ended {
  ExitCode code = ExitCode::kOk;
  std::string text;
  bool elsewhere = false;
};
std::vector<Ended> ends_of(int size, const std::function<TrainOptions(int)>& options,
                           const fs::path& folder) {
  const data::DataSet data = data::DataSet::load(folder);
  std::vector<Ended> ends(static_cast<std::size_t>(size));
  dist::run_local(size, [&](dist::Comm& comm) {
    Ended& end = ends[static_cast<std::size_t>(comm.rank())];
    try {
      Ranks ranks(comm);
      train(options(comm.rank()), data, ranks);
    } catch (const Error& error) {
      end = {error.code(), error.what(), dynamic_cast<const ElsewhereError*>(&error) != nullptr};
    }
  });
  return ends;
}

TEST_F(TrainRanks, RefuseToStartIfTheyDisagree) {
  const auto one_differs = [](int rank) {
    auto set = testing::small_dense();
    if (rank == 2) set.push_back("train.lr=0.5");
    return options("dense", "differ", set);
  };
  for (const Ended& end : ends_of(4, one_differs, path("rows"))) {
    EXPECT_EQ(end.code, ExitCode::kConfig);
    EXPECT_EQ(end.text, "rank 2 differs from the other ranks in settings: train.lr");
  }
  const auto first_differs = [](int rank) {
    TrainOptions out = options("dense", "differ", testing::small_dense());
    if (rank == 0) out.resume = "must";
    return out;
  };
  for (const Ended& end : ends_of(3, first_differs, path("rows"))) {
    EXPECT_EQ(end.code, ExitCode::kConfig);
    EXPECT_NE(end.text.find("rank 0 differs"), std::string::npos) << end.text;
  }
  EXPECT_FALSE(fs::exists(path("differ")));
}

TEST_F(TrainRanks, AllDivergeTogether) {
  const auto wild = [](int) {
    return options("dense", "diverged",
                   testing::small_dense({"train.lr=10", "optim.kind=sgd", "optim.momentum=0.99",
                                         "data.standardize_target=false", "train.max_nonfinite=3",
                                         "train.epochs=500", "schedule.kind=constant"}));
  };
  for (const Ended& end : ends_of(3, wild, path("rows"))) {
    EXPECT_EQ(end.code, ExitCode::kDiverged);
    EXPECT_FALSE(end.elsewhere);
  }
}

TEST_F(TrainRanks, WhatTheFirstCannotDoEndsAll) {
  testing::write_bytes(path("a_file"), "");
  const auto ends = ends_of(
      3, [](int) { return options("dense", "a_file", testing::small_dense()); }, path("rows"));
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    EXPECT_EQ(ends[rank].code, ends[0].code);
    EXPECT_NE(ends[rank].text.find("a_file"), std::string::npos) << ends[rank].text;
    EXPECT_EQ(ends[rank].elsewhere, rank > 0);
  }
  EXPECT_EQ(ends[0].code, ExitCode::kCannotCreate);
}

TEST(OddRanks, AreTheMinorityOrNotOfTheFirst) {
  EXPECT_EQ(odd_ranks({5, 5, 5}), std::vector<int>{});
  EXPECT_EQ(odd_ranks({5, 7, 5}), std::vector<int>{1});
  EXPECT_EQ(odd_ranks({7, 5, 5}), std::vector<int>{0});
  EXPECT_EQ(odd_ranks({7, 5}), std::vector<int>{1});
  EXPECT_EQ(odd_ranks({5, 7, 7, 5}), (std::vector<int>{1, 2}));
  EXPECT_EQ(name_ranks({1, 2}), "ranks 1, 2");
}

}  // namespace
}  // namespace onpa::apps
