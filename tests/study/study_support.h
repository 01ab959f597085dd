// A data set for studies of a second, and what a study leaves.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "kernels/philox.h"
#include "tests/apps/run_command.h"
#include "tests/support/temp_folder.h"

namespace onpa::testing {

/// Popularity follows the first feature in all genres but "noise"; a track in eight has two genres.
inline data::DataSet study_data(std::int64_t tracks) {
  data::DataSet data;
  data.feature_names = {"energy", "valence"};
  const std::vector<std::string> genres = {"edm", "Hip Hop", "noise", "tiny"};
  Philox rng({.seed = 3, .stream = kStreamTest});
  const auto draw = [&] { return static_cast<float>(rng.uniform()); };
  for (std::int64_t i = 0; i < tracks; ++i) {
    data::Track track;
    track.id = "track" + std::to_string(i);
    track.genre = i % 40 == 0 ? "tiny" : genres[static_cast<std::size_t>(i % 3)];
    if (i % 8 == 0) track.genre += ";edm";
    track.features = {draw(), draw()};
    const float x = i % 3 == 2 ? draw() : track.features[0];
    track.popularity = static_cast<int>(100 * (0.2f + 0.6f * x));
    track.target = static_cast<float>(track.popularity / 100 - 0.5);
    data.tracks.push_back(track);
  }
  data::assign_split(data.tracks, 0.8, 1);
  data.card =
      R"({"version":2,"options":{"undersample":"q0.5","bin_width":10,"seed":4},"source":{"csv":"x.csv"}})";
  data::UndersampleRule rule = data::parse_undersample("q0.5");
  rule.bin_width = 10;
  data::undersample(data.tracks, rule, 4);
  return data;
}

/// Words of a study of Dense models that trains in a fraction of a second.
inline std::vector<std::string> small_study(const std::filesystem::path& folder,
                                            const std::vector<std::string>& more = {}) {
  std::vector<std::string> out = {"study",
                                  "--data",
                                  folder / "data",
                                  "--out",
                                  folder / "study",
                                  "--models",
                                  "dense",
                                  "--min-tracks",
                                  "50",
                                  "--set-dense",
                                  "model.hidden=[8]",
                                  "--set-dense",
                                  "train.epochs=3",
                                  "--set-dense",
                                  "train.batch_size=32",
                                  "--draws",
                                  "100",
                                  "--device",
                                  "cpu"};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

inline nlohmann::json study_json(const std::filesystem::path& folder) {
  return nlohmann::json::parse(read_bytes(folder / "study" / "study.json"));
}

}  // namespace onpa::testing
