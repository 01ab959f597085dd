// A corpus on disk.
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "apps/study/corpus.h"
#include "apps/study/metrics.h"
#include "audio/encode.h"
#include "data/file.h"
#include "data/table.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Raised when the same options begin to give other files.
constexpr int kGeneration = 1;

std::string number(double value) {
  std::array<char, 40> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::string options_text(const CorpusOptions& options) {
  const Json json = {{"generation", kGeneration},
                     {"tracks", options.tracks},
                     {"seconds", options.seconds},
                     {"seed", options.seed},
                     {"bitrate_kbps", options.bitrate_kbps}};
  return json.dump(2) + "\n";
}

std::string pitch_class(const CorpusTrack& track) {
  // 110 Hz is an A, pitch class 9; the register spans 30 semitones.
  return std::to_string((9 + std::lround(30 * track.features.valence)) % 12);
}

// The table has one row a track and genre, like the public one it is modelled on.
std::string tracks_csv(const std::vector<CorpusTrack>& tracks, double seconds) {
  std::string text = data::csv_line({"",
                                     "track_id",
                                     "artists",
                                     "album_name",
                                     "track_name",
                                     "popularity",
                                     "duration_ms",
                                     "explicit",
                                     "danceability",
                                     "energy",
                                     "key",
                                     "loudness",
                                     "mode",
                                     "speechiness",
                                     "acousticness",
                                     "instrumentalness",
                                     "liveness",
                                     "valence",
                                     "tempo",
                                     "time_signature",
                                     "track_genre"});
  std::int64_t line = 0;
  for (const CorpusTrack& track : tracks) {
    const SongFeatures& f = track.features;
    const std::string artist = "Artist " + std::to_string(track.index % 97);
    for (const std::string& genre : {track.genre, track.second_genre}) {
      if (genre.empty()) continue;
      text += data::csv_line({std::to_string(line++),
                              track.id,
                              artist,
                              "Sketches, volume " + std::to_string(track.index / 100),
                              "No. " + std::to_string(track.index) + ", in \"" + genre + "\"",
                              std::to_string(track.popularity),
                              std::to_string(std::llround(1000 * seconds)),
                              "False",
                              number(f.danceability),
                              number(f.energy),
                              pitch_class(track),
                              number(f.loudness),
                              std::to_string(f.mode),
                              number(f.speechiness),
                              number(f.acousticness),
                              number(f.instrumentalness),
                              number(f.liveness),
                              number(f.valence),
                              number(f.tempo),
                              "4",
                              genre});
    }
  }
  return text;
}

std::string truth_csv(const std::vector<CorpusTrack>& tracks) {
  std::string text =
      data::csv_line({"track_id", "hidden", "mean_given_features", "mean_given_audio"});
  for (const CorpusTrack& track : tracks) {
    text += data::csv_line({track.id, number(track.hidden), number(track.mean_given_features),
                            number(track.mean_given_audio)});
  }
  return text;
}

Floors floors_of(std::span<const float> target, std::span<const float> given_features,
                 std::span<const float> given_audio) {
  const RegressionMetrics dense = regression_metrics(target, given_features);
  const RegressionMetrics passt = regression_metrics(target, given_audio);
  return {.n = dense.n,
          .dense_rmse = dense.rmse,
          .passt_rmse = passt.rmse,
          .dense_mae = dense.mae,
          .passt_mae = passt.mae};
}

std::string floors_json(const std::vector<CorpusTrack>& tracks) {
  std::vector<float> target, features, audio;
  for (const CorpusTrack& track : tracks) {
    target.push_back(static_cast<float>(track.popularity / 100.0 - 0.5));
    features.push_back(static_cast<float>(track.mean_given_features));
    audio.push_back(static_cast<float>(track.mean_given_audio));
  }
  const auto json = [](const Floors& f) {
    return Json{{"dense", {{"rmse", f.dense_rmse}, {"mae", f.dense_mae}}},
                {"passt", {{"rmse", f.passt_rmse}, {"mae", f.passt_mae}}}};
  };
  const Json out = {{"tau", kTau},
                    {"sigma", kSigma},
                    {"planted_genre", kPlantedGenre},
                    {"analytic", json(analytic_floors())},
                    {"all_tracks", json(floors_of(target, features, audio))}};
  return out.dump(2) + "\n";
}

bool there(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return !error && size > 0;
}

void render_all(const fs::path& folder, const std::vector<CorpusTrack>& tracks,
                const CorpusOptions& options,
                const std::function<void(std::int64_t, std::int64_t)>& progress) {
  std::atomic<std::int64_t> done = 0;
  std::mutex mutex;
  const auto total = std::ssize(tracks);
  kernels::parallel_for(total, 8, [&](std::int64_t begin, std::int64_t end) {
    const io::FaultScope faults(io::FileKind::kCorpus);
    for (std::int64_t i = begin; i < end; ++i) {
      const CorpusTrack& track = tracks[static_cast<std::size_t>(i)];
      const fs::path file = folder / (track.id + ".mp3");
      if (!there(file)) {
        const std::vector<std::byte> mp3 =
            audio::encode_mp3(render_clip(track, options), options.bitrate_kbps);
        io::write_file_atomic(file, {reinterpret_cast<const char*>(mp3.data()), mp3.size()});
      }
      ++done;
      if (progress) {
        const std::lock_guard lock(mutex);
        progress(done, total);
      }
    }
  });
}

}  // namespace

bool make_corpus(const fs::path& folder, const CorpusOptions& options,
                 const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const std::vector<CorpusTrack> tracks = draw_corpus(options);
  const fs::path audio = folder / "audio";
  const io::FaultScope faults(io::FileKind::kCorpus);
  io::make_folders(audio);
  // The options are on disk before the first clip, so that clips of two corpora never mix.
  const fs::path plan = folder / "corpus.part.json", finished = folder / "corpus.json";
  for (const fs::path& file : {plan, finished}) {
    if (there(file) && data::read_file(file) != options_text(options)) {
      fail(ExitCode::kCannotCreate, file.string(), ": the folder holds a corpus with other ",
           "options; remove it or give another folder");
    }
  }
  const auto rendered = [&](const CorpusTrack& t) { return there(audio / (t.id + ".mp3")); };
  if (there(finished) && std::all_of(tracks.begin(), tracks.end(), rendered)) return false;
  io::write_file_atomic(plan, options_text(options));
  render_all(audio, tracks, options, progress);
  io::write_file_atomic(folder / "tracks.csv", tracks_csv(tracks, options.seconds));
  io::write_file_atomic(folder / "truth.csv", truth_csv(tracks));
  io::write_file_atomic(folder / "floors.json", floors_json(tracks));
  io::write_file_atomic(finished, options_text(options));
  std::error_code ignored;
  fs::remove(plan, ignored);
  return true;
}

Floors analytic_floors() {
  const double dense = std::hypot(kTau, kSigma);
  const double mae_over_rmse = std::sqrt(2 / 3.141592653589793);  // of a normal error
  return {.n = 0,
          .dense_rmse = dense,
          .passt_rmse = kSigma,
          .dense_mae = dense * mae_over_rmse,
          .passt_mae = kSigma * mae_over_rmse};
}

Floors test_floors(const fs::path& folder, const data::DataSet& data) {
  const data::Table truth = data::Table::read_csv(folder / "truth.csv");
  const int id = truth.find("track_id"), features = truth.find("mean_given_features"),
            audio = truth.find("mean_given_audio");
  if (id < 0 || features < 0 || audio < 0) {
    fail(ExitCode::kBadData, truth.name(),
         ": want columns track_id, mean_given_features, mean_given_audio");
  }
  std::unordered_map<std::string_view, std::int64_t> row_of;
  for (std::int64_t row = 0; row < truth.rows(); ++row) row_of[truth.cell(row, id)] = row;
  std::vector<float> target, given_features, given_audio;
  for (const std::int64_t i : data.indices(data::Split::kTest)) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(i)];
    const auto row = row_of.find(track.id);
    double a = 0, b = 0;
    if (row == row_of.end() || !data::parse_number(truth.cell(row->second, features), a) ||
        !data::parse_number(truth.cell(row->second, audio), b)) {
      fail(ExitCode::kBadData, truth.name(), ": nothing for track ", track.id);
    }
    const auto mapped = [&](double mean) {
      return data.target_map.target(data::TargetMap{}.popularity(mean));
    };
    target.push_back(track.target);
    given_features.push_back(mapped(a));
    given_audio.push_back(mapped(b));
  }
  if (target.empty()) fail(ExitCode::kBadData, "test_floors: the test split is empty");
  return floors_of(target, given_features, given_audio);
}

}  // namespace onpa::apps
