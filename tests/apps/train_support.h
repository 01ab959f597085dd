// Small data sets and runs for tests of training.
#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "audio/encode.h"
#include "data/dataset.h"
#include "data/table.h"
#include "kernels/philox.h"
#include "tests/apps/run_command.h"

namespace onpa::testing {

/// `count` tracks with four features that explain most of the target; every fifth is a test track.
inline data::DataSet feature_data(int count) {
  data::DataSet data;
  data.feature_names = {"a", "b", "c", "d"};
  data.card = "{}";
  for (int i = 0; i < count; ++i) {
    Philox rng({.seed = 7, .stream = kStreamTest, .sample = static_cast<std::uint64_t>(i)});
    data::Track track;
    track.id = "track" + std::to_string(i);
    track.genre = i % 2 == 0 ? "even" : "odd";
    for (int j = 0; j < 4; ++j) track.features.push_back(static_cast<float>(rng.normal()));
    track.popularity = 50 + 20 * std::tanh(track.features[0]) + rng.normal();
    track.target = static_cast<float>(track.popularity / 100 - 0.5);
    track.split = i % 5 == 4 ? data::Split::kTest : data::Split::kTrain;
    data.tracks.push_back(track);
  }
  return data;
}

/// The same with a short mp3 each, whose pitch follows the first feature.
inline data::DataSet audio_data(const std::filesystem::path& audio, int count) {
  data::DataSet data = feature_data(count);
  std::filesystem::create_directories(audio);
  data.audio_root = audio;
  for (data::Track& track : data.tracks) {
    audio::Clip clip;
    clip.samples.resize(16000);
    const double hz = 400 * std::exp2(track.features[0]);
    for (std::size_t i = 0; i < clip.samples.size(); ++i) {
      clip.samples[i] =
          static_cast<float>(0.3 * std::sin(6.283185307 * hz * static_cast<double>(i) / 32000));
    }
    track.audio = track.id + ".mp3";
    write_bytes(audio / track.audio, audio::encode_mp3(clip, 64));
  }
  return data;
}

inline std::string last_weights(const std::filesystem::path& run) {
  return read_bytes(run / "checkpoints" / "last" / "model.safetensors");
}

/// Arguments of `onpa train`.
inline std::vector<std::string> train_args(const std::string& model,
                                           const std::filesystem::path& data,
                                           const std::filesystem::path& run,
                                           const std::vector<std::string>& set) {
  std::vector<std::string> args = {"train", model, "--data", data.string(), "--run", run.string()};
  for (const std::string& s : set) {
    args.push_back("--set");
    args.push_back(s);
  }
  return args;
}

}  // namespace onpa::testing
