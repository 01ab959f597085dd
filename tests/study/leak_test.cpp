// A table in which tracks recur and artists have an effect of their own, split in several ways: the
// error of a model that can memorise shows what leaks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/inference/predictor.h"
#include "apps/study/evaluate.h"
#include "apps/study/metrics.h"
#include "apps/study/prepare.h"
#include "data/table.h"
#include "kernels/philox.h"
#include "tests/apps/train_support.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

constexpr int kArtists = 150, kTracksEach = 6;
const std::vector<std::string> kFeatures = {"energy", "valence", "liveness", "speechiness"};

// The features of a track lie near those of its artist. Popularity is an effect of the artist and
// one of the track, of 20 and 12 points, that follow from no other column.
std::string leaky_table() {
  std::vector<std::string> header = {"id", "artists", "genre", "popularity"};
  header.insert(header.end(), kFeatures.begin(), kFeatures.end());
  std::string text = data::csv_line(header);
  for (int artist = 0; artist < kArtists; ++artist) {
    Philox of_artist({.seed = 5,
                      .stream = kStreamTest,
                      .step = 1,
                      .sample = static_cast<std::uint64_t>(artist)});
    const double effect = 20 * of_artist.normal();
    std::vector<double> centre;
    for (std::size_t f = 0; f < kFeatures.size(); ++f) {
      centre.push_back(0.2 + 0.6 * of_artist.uniform());
    }
    for (int k = 0; k < kTracksEach; ++k) {
      const int number = artist * kTracksEach + k;
      Philox rng({.seed = 5,
                  .stream = kStreamTest,
                  .step = 2,
                  .sample = static_cast<std::uint64_t>(number)});
      const double popularity = std::clamp(std::round(50 + effect + 12 * rng.normal()), 0.0, 100.0);
      std::vector<std::string> cells = {"t" + std::to_string(number),
                                        "artist " + std::to_string(artist), "",
                                        std::to_string(static_cast<int>(popularity))};
      for (const double c : centre) {
        cells.push_back(std::to_string(std::clamp(c + 0.06 * rng.normal(), 0.0, 1.0)));
      }
      for (const char* genre : {"folk", "pop", "rock", "soul"}) {
        cells[2] = genre;
        text += data::csv_line(cells);
      }
    }
  }
  return text;
}

class Leaks : public ::testing::Test {
 protected:
  void SetUp() override { testing::write_bytes(folder_ / "table.csv", leaky_table()); }

  PrepareArgs args_of(const std::string& split) const {
    PrepareArgs args;
    args.csv = (folder_ / "table.csv").string();
    args.out = (folder_ / ("data " + split)).string();
    args.split = split;
    args.features = "";
    for (const std::string& name : kFeatures) {
      args.features += (args.features.empty() ? "" : ",") + name;
    }
    return args;
  }

  // Test RMSE in popularity points of a Dense that is large enough to learn its train rows by
  // heart.
  double error_of(const std::string& split) {
    const PrepareArgs args = args_of(split);
    data::DataSet data = prepare_data(args);
    data.save(args.out);
    data = data::DataSet::load(args.out);
    const auto rows = static_cast<int>(data.indices(data::Split::kTrain).size());
    const int steps = 2400;
    const fs::path run = folder_ / ("run " + split);
    const testing::CommandResult result = testing::run_command(
        testing::train_args("dense", args.out, run,
                            {"model.hidden=[128,128]", "train.lr=0.003", "train.batch_size=128",
                             "train.epochs=" + std::to_string(steps * 128 / rows)}));
    EXPECT_EQ(result.code, 0) << result.err;
    std::vector<float> target, prediction;
    for (const TrackPrediction& p : evaluate_run(run, data, 512).predictions) {
      target.push_back(p.target);
      prediction.push_back(p.prediction);
    }
    return 100 * regression_metrics(target, prediction).rmse;
  }

  testing::TempFolder folder_{testing::quick_parent()};
};

TEST_F(Leaks, EachShowsInTheError) {
  const double rows = error_of("rows"), random = error_of("random"), artist = error_of("artist");
  std::printf("RMSE in points: rows %.1f, random %.1f, artist %.1f\n", rows, random, artist);
  // A row with a twin in train is known by heart; of a track with others of its artist there, the
  // larger part of the effects is.
  EXPECT_LT(rows, 0.7 * random);
  EXPECT_LT(random, 0.85 * artist);
}

// The same as plain counts, without a model.
TEST_F(Leaks, SharedTracksAndArtists) {
  const auto shared = [&](const std::string& split) {
    const data::DataSet data = prepare_data(args_of(split));
    std::set<std::string> train_tracks, test_tracks, train_artists, test_artists;
    for (const data::Track& track : data.tracks) {
      const std::string id = track.id.substr(0, track.id.find('#'));
      const int artist = std::stoi(id.substr(1)) / kTracksEach;
      const bool train = track.split == data::Split::kTrain;
      (train ? train_tracks : test_tracks).insert(id);
      (train ? train_artists : test_artists).insert(std::to_string(artist));
    }
    const auto both = [](const std::set<std::string>& a, const std::set<std::string>& b) {
      return std::count_if(a.begin(), a.end(), [&](const auto& x) { return b.contains(x); });
    };
    return std::pair{both(train_tracks, test_tracks), both(train_artists, test_artists)};
  };
  // 0.8^4 + 0.2^4 of the tracks are on one side with all four rows; five standard deviations.
  EXPECT_NEAR(static_cast<double>(shared("rows").first), 900 * 0.5888, 74);
  EXPECT_EQ(shared("random").first, 0);
  EXPECT_GT(shared("random").second, kArtists / 2);
  EXPECT_EQ(shared("artist"), (std::pair<std::ptrdiff_t, std::ptrdiff_t>{0, 0}));
}

TEST_F(Leaks, ScalesComeFromTrainAlone) {
  const PrepareArgs args = args_of("random");
  data::DataSet data = prepare_data(args);
  const auto card_of = [&](const std::string& name) {
    data.save(folder_ / name);
    const fs::path run = folder_ / ("run " + name);
    const testing::CommandResult result = testing::run_command(testing::train_args(
        "dense", folder_ / name, run, {"model.hidden=[4]", "train.max_steps=1", "train.epochs=1"}));
    EXPECT_EQ(result.code, 0) << result.err;
    return Predictor(run).card();
  };
  const auto spoil = [&](data::Split split) {
    for (data::Track& track : data.tracks) {
      if (track.split != split) continue;
      for (float& value : track.features) value = 3 * value + 100;
      track.popularity = 100 - track.popularity / 2;
      track.target = static_cast<float>(track.popularity / 100 - 0.5);
    }
  };
  const ModelCard plain = card_of("plain");
  spoil(data::Split::kTest);
  const ModelCard other_test = card_of("other test");
  EXPECT_EQ(other_test.features.mean, plain.features.mean);
  EXPECT_EQ(other_test.features.std, plain.features.std);
  EXPECT_EQ(other_test.target_mean, plain.target_mean);
  EXPECT_EQ(other_test.target_std, plain.target_std);
  spoil(data::Split::kTrain);
  const ModelCard other_train = card_of("other train");
  EXPECT_NE(other_train.features.mean, plain.features.mean);
  EXPECT_NE(other_train.target_mean, plain.target_mean);
}

}  // namespace
}  // namespace onpa::apps
