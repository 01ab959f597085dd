// Predictions of a track must depend on its own audio alone.
#include "apps/inference/inference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "apps/inference/predictor.h"
#include "audio/decode.h"
#include "audio/encode.h"
#include "kernels/philox.h"
#include "tensor/io/safetensors.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

// Clips of several lengths in mixed order, one of them under a patch.
constexpr std::array<int, 9> kLengths = {16000, 9000, 16000, 16000, 1700, 24007, 9000, 9000, 16000};

// Products of other shapes round in another order: predictions near 0.1, of logits near 0, may
// differ by a few units of float. Padding to a batch mate's length moves them by 5e-3 and more.
constexpr float kRounding = 5e-7F;

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float out = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    out = std::max(out, std::abs(a[i] - b[i]));
  }
  return out;
}

class PredictRows : public ::testing::Test {
 protected:
  PredictRows() : model_(nn::PasstConfig::preset("passt-xs")) {
    model_.initialize(3);
    card_.kind = "passt";
    card_.passt = model_.config();
    card_.mel.mels = static_cast<int>(card_.passt.mels);
    card_.target_mean = 0.1;
    card_.target_std = 0.2;
    data_.audio_root = folder_.path();
    for (std::size_t i = 0; i < kLengths.size(); ++i) {
      audio::Clip clip;
      Philox rng({.seed = 4, .stream = kStreamTest, .sample = i});
      for (int s = 0; s < kLengths[i]; ++s) {
        clip.samples.push_back(static_cast<float>(0.1 * rng.normal()));
      }
      const std::vector<std::byte> bytes = audio::encode_mp3(clip, 128);
      data::Track track;
      track.id = "track" + std::to_string(i);
      track.audio = track.id + ".mp3";
      testing::write_bytes(folder_ / track.audio, std::span<const std::byte>(bytes));
      data_.tracks.push_back(track);
      rows_.push_back(static_cast<std::int64_t>(i));
    }
  }

  std::vector<float> predict(std::vector<std::int64_t> rows, std::int64_t batch_size) {
    data::LoaderOptions options;
    options.batch_size = batch_size;
    std::vector<float> out;
    const auto predictions = predict_rows(model_, card_, data_, rows, options);
    EXPECT_EQ(predictions.size(), rows.size());
    std::sort(rows.begin(), rows.end());
    for (std::size_t i = 0; i < predictions.size(); ++i) {
      EXPECT_EQ(predictions[i].row, rows[i]);
      out.push_back(predictions[i].prediction);
    }
    return out;
  }
  std::vector<float> predict_alone() {
    std::vector<float> out;
    for (const std::int64_t row : rows_) out.push_back(predict({row}, 1).at(0));
    return out;
  }

  const testing::TempFolder folder_;
  nn::Passt model_;
  ModelCard card_;
  data::DataSet data_;
  std::vector<std::int64_t> rows_;
};

TEST_F(PredictRows, WholeClipsDoNotDependOnTheirBatch) {
  card_.seconds = 0;
  const std::vector<float> alone = predict_alone();
  for (const std::int64_t batch_size : {1, 2, 3, 16}) {
    EXPECT_LT(largest_difference(predict(rows_, batch_size), alone), kRounding) << batch_size;
  }
  // Other neighbours: equal lengths side by side, longest first.
  std::vector<std::int64_t> sorted = rows_;
  std::stable_sort(sorted.begin(), sorted.end(), [](std::int64_t a, std::int64_t b) {
    return kLengths[static_cast<std::size_t>(a)] > kLengths[static_cast<std::size_t>(b)];
  });
  EXPECT_LT(largest_difference(predict(sorted, 16), alone), kRounding);
}

TEST_F(PredictRows, CutClipsDoNotDependOnTheirBatch) {
  card_.seconds = 0.4;
  const std::vector<float> alone = predict_alone();
  for (const std::int64_t batch_size : {2, 3, 16}) {
    EXPECT_LT(largest_difference(predict(rows_, batch_size), alone), kRounding) << batch_size;
  }
}

TEST_F(PredictRows, WholeClipsAreWhatThePredictorSaysOfTheFile) {
  card_.seconds = 0;
  io::NamedTensors tensors;
  for (const nn::NamedParameter& p : model_.parameters()) tensors.emplace_back(p.name, p.tensor);
  io::write_safetensors(folder_ / "model.safetensors", tensors, card_.metadata());
  Predictor predictor(folder_ / "model.safetensors");
  const std::vector<float> batched = predict(rows_, 16);
  for (const std::int64_t row : rows_) {
    const std::string file = data_.tracks[static_cast<std::size_t>(row)].audio;
    const audio::Clip clip = audio::decode_file(folder_ / file);
    const Predictor::Output output = predictor.predict(clip.samples, file);
    EXPECT_NEAR(output.prediction.at(0), batched[static_cast<std::size_t>(row)], kRounding) << file;
  }
}

}  // namespace
}  // namespace onpa::apps
