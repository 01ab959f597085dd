// STUDY/study.json as values: all that the report shows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace onpa::apps::report {

/// What is null in the file: unknown.
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// Errors are in target units (Study::target_map) here and below.
struct Errors {
  double n = kUnknown, rmse = kUnknown, mae = kUnknown, r2 = kUnknown;
};

struct Interval {
  double low = kUnknown, high = kUnknown;
  bool known() const { return low <= high; }
  bool holds(double value) const { return low <= value && value <= high; }
};

/// Errors of each popularity bin, averaged over the bins that hold a track.
struct Balanced {
  double bin_width = kUnknown, bins = kUnknown, rmse = kUnknown, mae = kUnknown;
};

/// One trained and evaluated model on one scope.
struct Cell {
  std::string run;
  bool done = false;  // false: the rest is unknown
  Errors errors;
  Interval mae_interval, rmse_interval;
  Balanced balanced;
  double bias = kUnknown, rank = kUnknown, parameters = kUnknown, epochs = kUnknown;
  double steps = kUnknown, train_seconds = kUnknown, hours_per_epoch = kUnknown;
  double peak_memory_bytes = kUnknown, energy_joules = kUnknown;
  struct CurvePoint {
    double epoch, value;
  };
  std::vector<CurvePoint> loss, test_rmse;
};

/// Of two models' absolute errors on the same tracks: mean, its interval, signed-rank test.
struct Difference {
  double mae = kUnknown;
  Interval interval;
  double p = kUnknown;
  bool excludes_zero() const { return interval.known() && !interval.holds(0); }
};

struct Scope {
  std::string name;
  double tracks = kUnknown, train = kUnknown, train_kept = kUnknown, test = kUnknown;
  std::map<std::string, Cell> models;
  std::map<std::string, Errors> baselines;
  std::optional<Difference> difference;  // dense - passt

  /// The cell if it is there and done.
  const Cell* done(const std::string& model) const;
};

struct Variant {
  std::string name, model;
  std::vector<std::string> settings;
  Cell cell;
  std::optional<Difference> difference;  // variant - plain
};

struct Peer {
  std::string name, library, settings;
  double seconds = kUnknown;
  Errors errors;
  Interval mae_interval;
  Balanced balanced;
};

struct ErrorBin {
  double low = 0, high = 0, n = 0;    // popularity points
  std::map<std::string, double> mae;  // by model
};

/// counts[t][p]: tracks whose true value is in bin t and whose prediction is in bin p, both over
/// [low, high] popularity points.
struct TrueByPredicted {
  double low = 0, high = 100;
  std::vector<std::vector<double>> counts;
};

struct WorstTrack {
  std::string id, genre;
  double target = kUnknown, prediction = kUnknown;
};
struct SlowTrack {
  std::string id, audio;
  double seconds = kUnknown;
};
struct FailedCell {
  std::string cell;
  double exit_code = kUnknown;
  std::vector<std::string> last_lines;
};

/// Lowest errors that are possible, by model, where the data's makers know them.
struct Floor {
  double rmse = kUnknown, mae = kUnknown;
};

struct Study {
  std::map<std::string, std::string> made;  // onpa, commit, utc, device, cpu, cores
  std::vector<std::string> command;
  std::string data_folder, data_hash;
  data::TargetMap target_map;
  nlohmann::ordered_json card;  // null or the data card
  std::vector<std::string> models;
  std::string from, init_from;  // init_from: weights that PaSST starts from; empty: none
  double seed = kUnknown, min_tracks = kUnknown, confidence = kUnknown, draws = kUnknown;
  std::map<std::string, std::string> configs;  // TOML text by model
  std::vector<Scope> scopes;                   // "all data" first
  std::vector<Variant> variants;
  std::optional<Difference> rank_correlation;  // mae: Spearman's coefficient, with its p
  double ranked_rows = kUnknown;
  std::vector<Peer> peers;
  std::vector<ErrorBin> error_bins;
  std::map<std::string, TrueByPredicted> true_by_predicted;
  std::map<std::string, std::vector<WorstTrack>> worst;
  std::vector<SlowTrack> slowest;
  std::map<std::string, Floor> floors;
  std::vector<FailedCell> failed;

  const Scope& all() const { return scopes.front(); }
  /// Popularity points that an error in target units is.
  double points(double error) const { return error * (target_map.high - target_map.low); }
  /// What errors are counted in: "popularity / 100".
  std::string unit() const;
  /// "95 %", which no line break parts.
  std::string level() const;
};

/// "passt" as "PaSST", "dense" as "Dense", others as they are.
std::string model_name(const std::string& model);
/// "the waveform", "the features".
std::string input_of(const std::string& model);

/// Throws Error (kBadData) that names the place in the file, what is there and what should be.
Study parse_study(const std::string& json, const std::string& file);
/// Reads STUDY/study.json. Throws Error (kInputMissing) without it, and as parse_study.
Study load_study(const std::filesystem::path& folder);

}  // namespace onpa::apps::report
