// A prepared data set: the folder that `onpa prepare` writes and all other verbs read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace onpa::data {

enum class Split : std::uint8_t { kTrain, kTest };

/// One track. `features` are raw (unscaled) values in the order of DataSet::feature_names.
struct Track {
  std::string id;
  std::string audio;      // path relative to DataSet::audio_root; empty if there is none
  std::string genre;      // all genres of the track, joined by ';'
  double popularity = 0;  // 0..100, as in the source
  float target = 0;       // popularity / 100 - 0.5
  std::vector<float> features;
  Split split = Split::kTrain;
  bool kept = true;  // false: train row removed by undersampling
  std::vector<std::string> genres() const;
};

/// DATA/tracks.csv (one row a track) and DATA/card.json (how it came to be).
struct DataSet {
  std::vector<Track> tracks;
  std::vector<std::string> feature_names;
  std::filesystem::path audio_root;
  std::string card;  // the data card, JSON text

  /// Throws Error: kInputMissing without tracks.csv or card.json, kBadData for a bad row.
  static DataSet load(const std::filesystem::path& folder);
  /// Writes both files atomically. Throws Error (kCannotCreate, kIo).
  void save(const std::filesystem::path& folder) const;
  /// Indices of the tracks of a split; train without those that undersampling removed.
  std::vector<std::int64_t> indices(Split split) const;
  /// xxh3-64 of tracks.csv as hex: identifies the data in checkpoints.
  std::string hash;
};

/// Random split by id, `train_fraction` of the tracks to train; depends on (seed, id) alone.
void assign_split(std::vector<Track>& tracks, double train_fraction, std::uint64_t seed);

/// Caps each popularity bin of the train split, without replacement; sets Track::kept.
struct UndersampleRule {
  enum class Cap { kNone, kMin, kMedian, kQuantile, kCount } cap = Cap::kNone;
  double quantile = 0.5;   // kQuantile: of the non-empty bins' counts
  std::int64_t count = 0;  // kCount
  double bin_width = 5;    // popularity points
};
/// Parses "none", "min", "median", "q0.25", "200". Throws Error (kConfig).
UndersampleRule parse_undersample(const std::string& text);
void undersample(std::vector<Track>& tracks, const UndersampleRule& rule, std::uint64_t seed);

/// Column means and standard deviations (ddof 0; 1 where it is 0) of the given rows.
struct Scaler {
  std::vector<float> mean, std;
  static Scaler fit(const DataSet& data, std::span<const std::int64_t> rows);
  void apply(std::span<const float> raw, std::span<float> scaled) const;
};

}  // namespace onpa::data
