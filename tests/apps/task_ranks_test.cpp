// What a training task gives the ranks that share its batches: together, what it gives one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/training/train_task.h"
#include "audio/augment.h"
#include "audio/mel.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tests/apps/train_support.h"
#include "tests/support/random_values.h"
#include "tests/support/shard_ranks.h"

namespace onpa::apps {
namespace {

using testing::outcomes_of_ranks;
using testing::run_ranks;
using testing::text_of;

constexpr int kWorlds[] = {1, 2, 3, 7};

// Batches of 8 of 32 train clips; one of 10 is short in the end. Every random thing on.
Config passt_config(std::int64_t batch_size) {
  return load_config(
      "passt", {},
      {"model.preset=passt-xs", "data.seconds=0.4",
       "train.batch_size=" + std::to_string(batch_size), "train.patchout_time=2",
       "train.patchout_freq=1", "data.wave_mixup=0.5", "data.mixup_alpha=0.3",
       "data.gain_low_db=-3", "data.gain_high_db=3", "data.roll_samples=50", "mel.freq_mask=8",
       "mel.time_mask=10", "mel.fmin_range_hz=10", "mel.fmax_range_hz=2000",
       "data.max_bad_fraction=0.5", "train.eval_batch_size=3"});
}

Config dense_config() {
  return load_config("dense", {},
                     {"train.batch_size=10", "model.hidden=[33,7]", "model.dropout=0.3",
                      "train.eval_batch_size=3"});
}

// Mel bands and targets as the loss mixes them: those of the rank's own clips.
struct Mixed {
  std::vector<float> mel, target;
};

Mixed mixed(const Config& config, const HostBatch& batch) {
  const auto& in = batch.inputs;
  const audio::MixupTensors plan = {in[4], in[5]};
  const Tensor mel = audio::log_mel_device(in[0], config.mel_config(), {in[2], in[3]});
  return {audio::apply_mixup(mel, plan).to_vector<float>(),
          audio::apply_mixup(in[1], plan).to_vector<float>()};
}

struct PasstEpoch {
  std::vector<Mixed> batches;
  std::vector<std::int64_t> totals, cursors;
  std::vector<double> losses;  // of whole batches
};

// What all ranks have of each batch, one after another, and the losses that they add up.
PasstEpoch passt_epoch(const Config& config, const data::DataSet& data, int world) {
  std::vector<PasstEpoch> ranks(static_cast<std::size_t>(world));
  run_ranks(world, [&](const data::Shard& shard) {
    PasstEpoch& out = ranks[static_cast<std::size_t>(shard.rank)];
    const auto task = make_passt_task(config, data, {}, shard);
    task->initialize(1);
    task->module().train(true);
    task->start_epoch(1, 0, 30);
    std::uint64_t draw = 30;
    for (HostBatch batch; task->next_batch(draw, batch); ++draw) {
      EXPECT_EQ(batch.first, shard.part(batch.total).begin);
      EXPECT_EQ(batch.samples, shard.part(batch.total).size());
      EXPECT_EQ(batch.inputs.empty(), batch.samples == 0);
      out.totals.push_back(batch.total);
      out.cursors.push_back(batch.cursor);
      out.batches.push_back(batch.samples == 0 ? Mixed{} : mixed(config, batch));
      const double share = static_cast<double>(batch.samples) / static_cast<double>(batch.total);
      out.losses.push_back(
          batch.samples == 0 ? 0 : share * task->loss(batch.inputs, draw, batch.first).item());
    }
  });
  PasstEpoch all = ranks[0];
  for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
    EXPECT_EQ(ranks[rank].totals, all.totals);
    EXPECT_EQ(ranks[rank].cursors, all.cursors);
    for (std::size_t b = 0; b < all.batches.size(); ++b) {
      const Mixed& more = ranks[rank].batches.at(b);
      all.batches[b].mel.insert(all.batches[b].mel.end(), more.mel.begin(), more.mel.end());
      all.batches[b].target.insert(all.batches[b].target.end(), more.target.begin(),
                                   more.target.end());
      all.losses[b] += ranks[rank].losses[b];
    }
  }
  return all;
}

class PasstRanks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<testing::TempFolder>();
    data_ = testing::audio_data(folder_->path(), 40);
    testing::write_bytes(*folder_ / "text.mp3", std::string("not audio at all"));
  }
  static void TearDownTestSuite() { folder_.reset(); }
  // Train tracks 2, 13 and 21 and test track 14 cannot be read.
  static data::DataSet spoilt() {
    data::DataSet data = data_;
    for (const std::size_t row : {2, 13, 14, 21}) data.tracks[row].audio = "text.mp3";
    return data;
  }

  static inline std::unique_ptr<testing::TempFolder> folder_;
  static inline data::DataSet data_;
};

TEST_F(PasstRanks, MixTheSpectrogramsOfTheWholeBatch) {
  const data::DataSet data = spoilt();
  for (const std::int64_t batch_size : {8, 5}) {
    const Config config = passt_config(batch_size);
    const PasstEpoch want = passt_epoch(config, data, 1);
    EXPECT_EQ(want.totals.back(), 29 % batch_size);
    for (const int world : {2, 3, 7}) {
      SCOPED_TRACE(::testing::Message() << world << " ranks, batches of " << batch_size);
      const PasstEpoch got = passt_epoch(config, data, world);
      EXPECT_EQ(got.totals, want.totals);
      EXPECT_EQ(got.cursors, want.cursors);
      for (std::size_t b = 0; b < want.batches.size(); ++b) {
        EXPECT_TRUE(got.batches[b].mel == want.batches[b].mel) << b;
        EXPECT_TRUE(got.batches[b].target == want.batches[b].target) << b;
        // Products of other shapes, and sums, round otherwise. Another patchout moves it by 6e-4
        // and more.
        EXPECT_NEAR(got.losses[b], want.losses[b], 1e-6 * std::abs(want.losses[b])) << b;
      }
    }
  }
}

TEST_F(PasstRanks, KnowTheBadTracksOfAll) {
  const data::DataSet data = spoilt();
  run_ranks(3, [&](const data::Shard& shard) {
    const auto task = make_passt_task(passt_config(8), data, {}, shard);
    task->initialize(1);
    task->start_epoch(0, 0, 0);
    HostBatch batch;
    for (std::uint64_t draw = 0; task->next_batch(draw, batch); ++draw) {
    }
    EXPECT_EQ(task->predict_held_out({}).size(), 7u);
    std::vector<std::int64_t> rows;
    for (const data::BadTrack& track : task->bad_tracks()) rows.push_back(track.row);
    std::sort(rows.begin(), rows.end());
    EXPECT_EQ(rows, (std::vector<std::int64_t>{2, 13, 14, 21}));
  });
}

void expect_predictions(const std::vector<TrackPrediction>& got,
                        const std::vector<TrackPrediction>& want, float rounding) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].row, want[i].row);
    EXPECT_EQ(got[i].target, want[i].target);
    EXPECT_NEAR(got[i].prediction, want[i].prediction, rounding);
  }
}

// Batches of other sizes round otherwise; predictions lie near 0.1.
constexpr float kRounding = 5e-7F;

TEST_F(PasstRanks, PredictEachTestTrackOnce) {
  const data::DataSet data = spoilt();
  for (const char* seconds : {"0.4", "0"}) {
    Config config = passt_config(8);
    config.data.seconds = std::stod(seconds);
    const auto alone = make_passt_task(config, data);
    alone->initialize(1);
    const auto want = alone->predict_held_out({});
    ASSERT_EQ(want.size(), 7u);
    for (const int world : {2, 3, 10}) {  // with 10 some have nothing to do
      SCOPED_TRACE(::testing::Message() << world << " ranks, " << seconds << " s");
      run_ranks(world, [&](const data::Shard& shard) {
        const auto task = make_passt_task(config, data, {}, shard);
        task->initialize(1);
        expect_predictions(task->predict_held_out({}), want, kRounding);
      });
    }
  }
}

TEST_F(PasstRanks, JudgeUnreadTestTracksTogether) {
  const data::DataSet data = spoilt();
  for (const double fraction : {0.13, 0.12}) {  // 1 of 8 is bad
    Config config = passt_config(8);
    config.data.max_bad_fraction = fraction;
    const auto predict = [&](const data::Shard& shard) {
      const auto task = make_passt_task(config, data, {}, shard);
      task->initialize(1);
      task->predict_held_out({});
    };
    const std::string want = text_of(outcomes_of_ranks(1, predict)[0]);
    EXPECT_EQ(want.rfind("65: loader: 1 of 8 tracks", 0), fraction == 0.12 ? 0 : std::string::npos);
    for (const auto& outcome : outcomes_of_ranks(3, predict)) EXPECT_EQ(text_of(outcome), want);
  }
}

TEST_F(PasstRanks, AFailureInAnEvaluationStopsAll) {
  const Config config = passt_config(8);
  const auto outcomes = outcomes_of_ranks(3, [&](const data::Shard& shard) {
    const auto task = make_passt_task(config, data_, {}, shard);
    task->initialize(1);
    task->predict_held_out([&]() -> bool {
      if (shard.rank == 2) fail(ExitCode::kOutOfMemory, "no memory");
      return false;
    });
  });
  EXPECT_EQ(text_of(outcomes[0]), "75: evaluation: rank 2 failed and says why");
  EXPECT_EQ(text_of(outcomes[1]), text_of(outcomes[0]));
  EXPECT_EQ(text_of(outcomes[2]), "81: no memory");
}

struct DenseEpoch {
  std::vector<float> x, y, losses;
  std::vector<std::int64_t> totals, cursors;
};

DenseEpoch dense_epoch(const data::DataSet& data, int world) {
  std::vector<std::vector<HostBatch>> batches(static_cast<std::size_t>(world));
  std::vector<std::vector<float>> losses(static_cast<std::size_t>(world));
  run_ranks(world, [&](const data::Shard& shard) {
    const auto rank = static_cast<std::size_t>(shard.rank);
    const auto task = make_dense_task(dense_config(), data, shard);
    task->initialize(1);
    task->module().train(true);
    task->start_epoch(2, 0, 7);
    std::uint64_t draw = 7;
    for (HostBatch batch; task->next_batch(draw, batch); ++draw) {
      EXPECT_EQ(batch.inputs.empty(), batch.samples == 0);
      batches[rank].push_back(batch);
      const float share = static_cast<float>(batch.samples) / static_cast<float>(batch.total);
      losses[rank].push_back(
          batch.samples == 0
              ? 0.0F
              : share * static_cast<float>(task->loss(batch.inputs, draw, batch.first).item()));
    }
  });
  DenseEpoch out;
  for (std::size_t b = 0; b < batches[0].size(); ++b) {
    std::int64_t samples = 0;
    float loss = 0;
    for (std::size_t rank = 0; rank < batches.size(); ++rank) {
      const HostBatch& part = batches[rank].at(b);
      EXPECT_EQ(part.first, samples);
      EXPECT_EQ(part.total, batches[0][b].total);
      EXPECT_EQ(part.cursor, batches[0][b].cursor);
      samples += part.samples;
      loss += losses[rank][b];
      if (part.samples == 0) continue;
      for (const auto& [to, from] :
           {std::pair(&out.x, part.inputs[0]), std::pair(&out.y, part.inputs[1])}) {
        const auto values = from.to_vector<float>();
        to->insert(to->end(), values.begin(), values.end());
      }
    }
    EXPECT_EQ(samples, batches[0][b].total);
    out.totals.push_back(samples);
    out.cursors.push_back(batches[0][b].cursor);
    out.losses.push_back(loss);
  }
  return out;
}

// Of 36 train rows in batches of 10 the last has 6, fewer than the ranks.
TEST(DenseRanks, ShareTheRowsOfOne) {
  const data::DataSet data = testing::feature_data(45);
  const DenseEpoch want = dense_epoch(data, 1);
  EXPECT_EQ(want.totals, (std::vector<std::int64_t>{10, 10, 10, 6}));
  for (const int world : kWorlds) {
    SCOPED_TRACE(world);
    const DenseEpoch got = dense_epoch(data, world);
    EXPECT_EQ(got.totals, want.totals);
    EXPECT_EQ(got.cursors, want.cursors);
    EXPECT_TRUE(got.x == want.x);
    EXPECT_TRUE(got.y == want.y);
    // Rounding; other rows of dropout move it by percents.
    for (std::size_t b = 0; b < want.losses.size(); ++b) {
      EXPECT_NEAR(got.losses[b], want.losses[b], 2e-6F * want.losses[b]);
    }
  }
}

TEST(DenseRanks, DropWhatOneDropsOfTheirRows) {
  nn::DenseConfig config;
  config.inputs = 5;
  config.hidden = {37, 11};
  config.dropout = 0.4F;
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    if (device == DeviceKind::kCuda && !has_cuda_backend()) continue;
    nn::Dense model(config);
    model.initialize(3);
    model.move_to(device, DType::kF32);
    model.train(true);
    const NoGrad no_grad;
    const Tensor x = Tensor::from<float>({13, 5}, testing::normal_values<float>(65, 8)).to(device);
    const std::vector<float> want = model.forward(x, 6, 40).to(DeviceKind::kCpu).to_vector<float>();
    for (const auto& [begin, end] : {std::pair(0, 4), std::pair(4, 5), std::pair(5, 13)}) {
      const std::vector<float> got =
          model.forward(x.slice(begin, end), 6, 40, begin).to(DeviceKind::kCpu).to_vector<float>();
      for (std::int64_t row = begin; row < end; ++row) {
        EXPECT_NEAR(got[static_cast<std::size_t>(row - begin)], want[static_cast<std::size_t>(row)],
                    1e-6F);
      }
    }
  }
}

TEST(DenseRanks, PredictEachTestRowOnce) {
  const data::DataSet data = testing::feature_data(45);
  const auto alone = make_dense_task(dense_config(), data);
  alone->initialize(1);
  const auto want = alone->predict_held_out({});
  ASSERT_EQ(want.size(), 9u);
  for (const int world : {2, 4, 11}) {
    run_ranks(world, [&](const data::Shard& shard) {
      const auto task = make_dense_task(dense_config(), data, shard);
      task->initialize(1);
      expect_predictions(task->predict_held_out({}), want, kRounding);
    });
  }
}

}  // namespace
}  // namespace onpa::apps
