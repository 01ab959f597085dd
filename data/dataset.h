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
  std::string id = {};
  std::string audio = {};  // path relative to DataSet::audio_root; empty if there is none
  std::string genre = {};  // all genres of the track, joined by ';'
  std::string group = {};  // what stays together in a split, such as an artist; empty: the id
  double popularity = 0;   // 0..100, as in the source
  float target = 0;        // DataSet::target_map of it
  std::vector<float> features = {};
  Split split = Split::kTrain;
  bool kept = true;  // false: train row removed by undersampling
  /// The parts of `genre`, without spaces around them, each once, in order.
  std::vector<std::string> genres() const;
  /// Tracks with one key are on one side of every split: `group`, or the id where that is empty.
  const std::string& group_key() const { return group.empty() ? id : group; }
};

/// What models learn: target = (popularity - low) / (high - low) - 0.5.
struct TargetMap {
  double low = 0, high = 100;  // popularity points at -0.5 and 0.5

  float target(double popularity) const {
    return static_cast<float>((popularity - low) / (high - low) - 0.5);
  }
  double popularity(double target) const { return low + (target + 0.5) * (high - low); }
  bool operator==(const TargetMap&) const = default;
};

/// DATA/tracks.csv (one row a track: id, audio, genre, popularity, split, kept, group, then one
/// column a feature; group may be absent) and DATA/card.json (how it came to be).
struct DataSet {
  std::vector<Track> tracks;
  std::vector<std::string> feature_names;
  std::filesystem::path audio_root;
  TargetMap target_map;
  // The data card, a JSON object as text; save() adds audio_root, feature_names, target and
  // hashes/tracks_xxh3.
  std::string card;

  /// Throws Error: kInputMissing without tracks.csv or card.json, kBadData for a bad cell (naming
  /// file, line, column, got and want) or a bad card.
  static DataSet load(const std::filesystem::path& folder);
  /// Writes both files atomically, the card last: while they are being replaced there is no card,
  /// so a folder that loads is whole. An audio root inside `folder` is stored relative to it, so
  /// that the folder can be moved. Throws Error: kCannotCreate, kIo, kBadData for a track that
  /// load() would reject.
  void save(const std::filesystem::path& folder) const;
  /// Indices of the tracks of a split; train without those that undersampling removed.
  std::vector<std::int64_t> indices(Split split) const;
  /// Takes another map, and gives every track its target by it.
  void map_targets(const TargetMap& map);
  /// xxh3-64 of tracks.csv, and of a target map that is not the default, as hex: identifies the
  /// data in checkpoints.
  std::string hash;
};

/// Random split by group_key(): each goes to train with probability `train_fraction`. Depends on
/// (seed, key) alone, so adding tracks moves none, and tracks with one key stay together.
void assign_split(std::vector<Track>& tracks, double train_fraction, std::uint64_t seed);

/// The same for groups of which some are large. A group with over half of what the test split
/// should hold goes to train, and the others' probability makes up for it, so that the share of
/// train is still `train_fraction` on average. Depends on the seed and all groups. Throws Error
/// (kBadData) if such groups hold more than `train_fraction` of the tracks.
struct GroupSplit {
  std::int64_t groups = 0;
  std::int64_t largest = 0;        // its tracks
  std::int64_t kept_in_train = 0;  // groups that were too large for the draw
};
GroupSplit assign_group_split(std::vector<Track>& tracks, double train_fraction,
                              std::uint64_t seed);

/// How many tracks a popularity bin of the train split may keep. kMin, kMedian and kQuantile are
/// of the counts of the non-empty bins (quantiles interpolated linearly, rounded down).
struct UndersampleRule {
  enum class Cap { kNone, kMin, kMedian, kQuantile, kCount } cap = Cap::kNone;
  double quantile = 0.5;   // kQuantile, [0, 1]
  std::int64_t count = 0;  // kCount, >= 1
  double bin_width = 5;    // popularity points
};
/// Parses "none", "min", "median", "q0.25", "200". Throws Error (kConfig).
UndersampleRule parse_undersample(const std::string& text);
/// Keeps a random choice without replacement of each bin's train tracks; sets Track::kept of all
/// tracks (test tracks are always kept). The choice depends on the seed and the ids, not on the
/// tracks' order. Returns the cap, at least the largest bin without one; 0 without train tracks.
/// Throws Error (kBadData) for a popularity outside [0, 100].
std::int64_t undersample(std::vector<Track>& tracks, const UndersampleRule& rule,
                         std::uint64_t seed);

/// Column means and standard deviations (ddof 0; 1 where it is 0) of the given rows.
struct Scaler {
  std::vector<float> mean, std;
  /// Throws Error (kBadData) without rows.
  static Scaler fit(const DataSet& data, std::span<const std::int64_t> rows);
  /// scaled = (raw - mean) / std, both of mean.size() values; may be the same memory.
  void apply(std::span<const float> raw, std::span<float> scaled) const;
};

}  // namespace onpa::data
