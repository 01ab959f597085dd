// Training on more of what is rare, and controls of what a run trains on.
#include "apps/training/rare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "apps/support/log.h"
#include "apps/training/train_rows.h"
#include "apps/training/train_task.h"
#include "apps/training/trainer.h"
#include "dist/local.h"
#include "kernels/error.h"
#include "kernels/shuffle.h"
#include "tests/apps/ranks_support.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

// Three quarters of the tracks at 50 points, so that all others are rare: one in eight far above,
// one in eight around them.
data::DataSet with_rare_targets(data::DataSet data) {
  for (std::size_t i = 0; i < data.tracks.size(); ++i) {
    data::Track& track = data.tracks[i];
    const double a = std::tanh(track.features[0]);
    track.popularity = i % 8 == 3 ? 90 + 5 * a : (i % 8 == 6 ? 50 + 2 * a : 50);
    track.target = static_cast<float>(track.popularity / 100 - 0.5);
  }
  return data;
}

std::vector<std::int64_t> train_split(const data::DataSet& data) {
  return data.indices(data::Split::kTrain);
}

Config mixup_config(std::vector<std::string> set = {}) {
  set.insert(set.end(), {"model.preset=passt-xs", "data.rare=mixup", "data.rare_neighbours=3"});
  return load_config("passt", {}, set);
}

std::vector<data::Bump> bumps_of_rows(const data::DataSet& data,
                                      const std::vector<std::int64_t>& rows) {
  std::vector<double> targets;
  for (const std::int64_t row : rows) {
    targets.push_back(data.tracks[static_cast<std::size_t>(row)].target);
  }
  return data::bumps_of(targets, 0.5);
}

TEST(RareItems, BalanceTheBumpsInEveryEpoch) {
  const data::DataSet data = with_rare_targets(testing::feature_data(400));
  const std::vector<std::int64_t> rows = train_split(data);
  const auto items_in = rare_items(data, rows, mixup_config());
  const std::vector<data::Bump> bumps = bumps_of_rows(data, rows);
  ASSERT_EQ(bumps.size(), 3u);
  EXPECT_GT(bumps[0].balance.repeats, 1);
  std::set<std::int64_t> seen_of_large;
  std::int64_t mixed = 0;
  for (std::uint64_t epoch = 0; epoch < 12; ++epoch) {
    std::map<std::int64_t, std::int64_t> whole, extra;
    std::set<std::uint64_t> samples;
    for (const data::EpochItem& item : items_in(epoch)) {
      EXPECT_TRUE(samples.insert(item.sample).second) << item.sample;
      if (item.sample == static_cast<std::uint64_t>(item.row)) {
        EXPECT_EQ(item.partner, -1);
        ++whole[item.row];
        continue;
      }
      EXPECT_GE(item.sample, data.tracks.size());
      ++extra[item.row];
      ASSERT_GE(item.partner, 0);
      EXPECT_NE(item.partner, item.row);
      ++mixed;
    }
    for (const data::Bump& bump : bumps) {
      std::int64_t kept = 0, added = 0;
      for (const std::int64_t place : bump.members) {
        const std::int64_t row = rows[static_cast<std::size_t>(place)];
        EXPECT_LE(whole[row], 1);
        kept += whole[row];
        added += extra[row];
        EXPECT_GE(extra[row], bump.balance.repeats);
        EXPECT_LE(extra[row], bump.balance.repeats + 1);
        if (bump.balance.kept < std::ssize(bump.members) && whole[row] > 0) {
          seen_of_large.insert(row);
        }
      }
      EXPECT_EQ(kept, bump.balance.kept);
      EXPECT_EQ(added, bump.balance.added(std::ssize(bump.members)));
    }
  }
  EXPECT_GT(mixed, 0);
  // Nothing of a large bump is lost for good.
  std::int64_t in_large = 0;
  for (const data::Bump& bump : bumps) {
    if (bump.balance.kept < std::ssize(bump.members)) in_large += std::ssize(bump.members);
  }
  EXPECT_EQ(std::ssize(seen_of_large), in_large);
}

TEST(RareItems, PartnersAreNearInTheOrderOfTargets) {
  const data::DataSet data = with_rare_targets(testing::feature_data(400));
  const std::vector<std::int64_t> rows = train_split(data);
  const auto items_in = rare_items(data, rows, mixup_config());
  const auto target = [&](std::int64_t row) {
    return data.tracks[static_cast<std::size_t>(row)].target;
  };
  std::set<std::int64_t> distances;
  for (const data::EpochItem& item : items_in(1)) {
    if (item.partner < 0) continue;
    const auto [low, high] = std::minmax({target(item.row), target(item.partner)});
    for (const data::Bump& bump : bumps_of_rows(data, rows)) {
      if (target(item.row) < bump.low || target(item.row) > bump.high) continue;
      EXPECT_TRUE(low >= bump.low && high <= bump.high);
    }
    std::int64_t between = 0;
    for (const std::int64_t row : rows) between += target(row) > low && target(row) < high;
    EXPECT_LT(between, 3);
    distances.insert(between);
  }
  EXPECT_EQ(distances.size(), 3u);
}

TEST(RareItems, ChangeWithSeedAndEpochAlone) {
  const data::DataSet data = with_rare_targets(testing::feature_data(200));
  const std::vector<std::int64_t> rows = train_split(data);
  const auto text = [&](const Config& config, std::uint64_t epoch) {
    std::string out;
    for (const data::EpochItem& item : rare_items(data, rows, config)(epoch)) {
      out += std::to_string(item.row) + "+" + std::to_string(item.partner) + " ";
    }
    return out;
  };
  EXPECT_EQ(text(mixup_config(), 4), text(mixup_config(), 4));
  EXPECT_NE(text(mixup_config(), 4), text(mixup_config(), 5));
  EXPECT_NE(text(mixup_config(), 4), text(mixup_config({"train.seed=2"}), 4));
}

TEST(RareItems, AreTheTracksWhereNothingIsRare) {
  data::DataSet data = testing::feature_data(100);
  for (data::Track& track : data.tracks) track.target = 0.25f;
  const std::vector<std::int64_t> rows = train_split(data);
  std::vector<std::int64_t> got;
  for (const data::EpochItem& item : rare_items(data, rows, mixup_config())(3)) {
    EXPECT_EQ(item.partner, -1);
    got.push_back(item.row);
  }
  EXPECT_EQ(got, rows);
}

Config smogn_config(std::vector<std::string> set = {}) {
  set.insert(set.begin(), {"data.rare=smogn", "train.batch_size=32", "model.hidden=[16,8]"});
  return load_config("dense", {}, set);
}

std::vector<std::vector<float>> sorted_rows(const Tensor& x, const Tensor& y) {
  std::vector<std::vector<float>> rows;
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    const float* row = x.data<float>() + i * x.size(1);
    rows.emplace_back(row, row + x.size(1));
    rows.back().push_back(y.data<float>()[i]);
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

TEST(Smogn, TakesThePlaceOfTheTrainRows) {
  const data::DataSet data = with_rare_targets(testing::feature_data(400));
  const auto plain = make_dense_task(smogn_config({"data.rare=none"}), data);
  EXPECT_EQ(plain->samples_per_epoch(), 320);
  const auto task = make_dense_task(smogn_config(), data);
  const DenseRows& rows = *task->dense_rows();
  std::int64_t want = 0, kept = 0;
  for (const data::Bump& bump : bumps_of_rows(data, train_split(data))) {
    want += bump.balance.kept + bump.balance.added(std::ssize(bump.members));
    kept += bump.balance.kept;
  }
  EXPECT_EQ(rows.x.size(0), want);
  EXPECT_GT(want - kept, 100);
  EXPECT_EQ(task->samples_per_epoch(), want);
  // The scales are those of the real rows, and so are the rows that are kept.
  EXPECT_EQ(task->card().features.mean, plain->card().features.mean);
  EXPECT_EQ(task->card().target_std, plain->card().target_std);
  const auto real = sorted_rows(plain->dense_rows()->x, plain->dense_rows()->y);
  const auto got = sorted_rows(rows.x, rows.y);
  std::int64_t found = 0;
  for (const auto& row : got) found += std::binary_search(real.begin(), real.end(), row);
  EXPECT_EQ(found, kept);
  task->initialize(1);
  EXPECT_EQ(task->predict_held_out({}).size(), 80u);
}

// Steps that are fused take rows by number, others take batches: of the same rows.
TEST(Smogn, BatchesAreOfTheSameRowsAsFusedSteps) {
  const data::DataSet data = with_rare_targets(testing::feature_data(400));
  const auto task = make_dense_task(smogn_config(), data);
  const DenseRows& rows = *task->dense_rows();
  const ShuffledOrder order(1, 3, static_cast<std::uint32_t>(rows.x.size(0)));
  task->start_epoch(3, 0, 0);
  std::int64_t place = 0;
  for (HostBatch batch; task->next_batch(0, batch);) {
    for (std::int64_t i = 0; i < batch.samples; ++i, ++place) {
      const std::int64_t row = order(static_cast<std::uint32_t>(place));
      EXPECT_EQ(batch.inputs[1].data<float>()[i], rows.y.data<float>()[row]);
      EXPECT_EQ(batch.inputs[0].data<float>()[i * 4 + 3], rows.x.data<float>()[row * 4 + 3]);
    }
  }
  EXPECT_EQ(place, rows.x.size(0));
}

TEST(RareSettings, AreForOneKindOfModelEach) {
  for (const auto& [kind, rare] : {std::pair{"dense", "mixup"}, std::pair{"passt", "smogn"}}) {
    try {
      load_config(kind, {}, {std::string("data.rare=") + rare});
      ADD_FAILURE() << kind << " " << rare;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kConfig);
      EXPECT_NE(std::string(e.what()).find("or none"), std::string::npos) << e.what();
    }
  }
}

TEST(TrainRowsSettings, UndersampledTracksCanBeTrainedOn) {
  data::DataSet data = testing::feature_data(50);
  data.tracks[7].kept = data.tracks[8].kept = false;
  const auto count = [&](const char* setting) {
    return train_rows(data, load_config("dense", {}, {setting})).train.size();
  };
  EXPECT_EQ(count("data.undersampled=true"), 38u);
  EXPECT_EQ(count("data.undersampled=false"), 40u);
}

TEST(TrainRowsSettings, PermutedTargetsAreThoseOfTheTrainTracks) {
  const data::DataSet data = testing::feature_data(300);
  const Config config = load_config("dense", {}, {"data.permute_targets=true"});
  const std::vector<std::int64_t> rows = train_split(data);
  EXPECT_FALSE(with_permuted_targets(data, rows, load_config("dense", {}, {})).has_value());
  const data::DataSet permuted = with_permuted_targets(data, rows, config).value();
  std::multiset<float> before, after;
  double product = 0, squares = 0;
  for (std::size_t i = 0; i < data.tracks.size(); ++i) {
    const data::Track &was = data.tracks[i], &is = permuted.tracks[i];
    EXPECT_EQ(was.features, is.features);
    EXPECT_FLOAT_EQ(is.target, static_cast<float>(is.popularity / 100 - 0.5));
    if (was.split == data::Split::kTest) {
      EXPECT_EQ(was.target, is.target);
      continue;
    }
    before.insert(was.target);
    after.insert(is.target);
    product += was.target * is.target;
    squares += was.target * was.target;
  }
  EXPECT_EQ(before, after);
  // Of 240 pairs: four standard deviations of a correlation of none.
  EXPECT_LT(std::abs(product / squares), 4 / std::sqrt(240));
}

// Runs on a few clips and rows, stopped, resumed and shared.
class TrainRare : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<testing::TempFolder>();
    with_rare_targets(testing::audio_data(*folder_ / "audio", 40)).save(*folder_ / "clips");
    with_rare_targets(testing::feature_data(400)).save(*folder_ / "rows");
    set_up_log(true);
  }
  static void TearDownTestSuite() { folder_.reset(); }
  static fs::path path(const std::string& name) { return *folder_ / name; }

  static TrainOptions options(const std::string& kind, const std::string& run,
                              std::vector<std::string> more = {}) {
    std::vector<std::string> set = {"train.epochs=2", "train.checkpoint_steps=1", "optim.eps=1e-5"};
    if (kind == "passt") {
      set.insert(set.end(), {"model.preset=passt-xs", "data.seconds=0.4", "train.batch_size=8",
                             "data.gain_low_db=-3", "data.gain_high_db=3", "mel.time_mask=10",
                             "data.wave_mixup=0.5", "data.rare=mixup"});
    } else {
      set.insert(set.end(), {"train.batch_size=32", "model.hidden=[16,8]", "data.rare=smogn",
                             "data.permute_targets=true"});
    }
    set.insert(set.end(), more.begin(), more.end());
    TrainOptions out;
    out.config = load_config(kind, {}, set);
    out.data = path(kind == "passt" ? "clips" : "rows");
    out.run = path(run);
    out.device = "cpu";
    out.quiet = true;
    return out;
  }

  static void train_on(int size, const TrainOptions& options) {
    const data::DataSet data = data::DataSet::load(options.data);
    dist::run_local(size, [&](dist::Comm& comm) {
      Ranks ranks(comm);
      EXPECT_EQ(train(options, data, ranks), 0);
    });
  }

  inline static std::unique_ptr<testing::TempFolder> folder_;
};

TEST_F(TrainRare, ResumedHasTheSameBits) {
  for (const std::string kind : {"passt", "dense"}) {
    train_on(1, options(kind, kind));
    const int steps = testing::last_step(path(kind));
    EXPECT_GT(steps, 6);
    // In the first epoch, and in the second.
    for (const int stop : {2, steps - 1}) {
      const std::string name = kind + std::to_string(stop);
      train_on(1, options(kind, name, {"train.max_steps=" + std::to_string(stop)}));
      EXPECT_EQ(testing::last_step(path(name)), stop);
      train_on(1, options(kind, name));
      EXPECT_TRUE(testing::last_weights(path(name)) == testing::last_weights(path(kind))) << name;
    }
    train_on(1, options(kind, kind + "_plain", {"data.rare=none"}));
    EXPECT_GT(testing::weight_difference(path(kind), path(kind + "_plain")), 1e-4);
  }
}

TEST_F(TrainRare, RanksTrainWhatOneDoes) {
  for (const std::string kind : {"passt", "dense"}) {
    // With a small eps AdamW's first steps are nearly signs, also of what is rounding alone.
    const std::vector<std::string> eps = {"optim.eps=1e-3"};
    train_on(1, options(kind, kind + "_one", eps));
    for (const int world : {2, 3}) {
      const std::string name = kind + "_of" + std::to_string(world);
      train_on(world, options(kind, name, eps));
      // Sums in another order are all that differs.
      EXPECT_LT(testing::weight_difference(path(kind + "_one"), path(name)), 1e-6) << name;
    }
  }
}

}  // namespace
}  // namespace onpa::apps
