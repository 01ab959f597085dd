// What a study knows of each of its models, and study.json, which is made of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/study/cells.h"
#include "apps/study/corpus.h"
#include "apps/study/evaluate.h"
#include "apps/study/metrics.h"
#include "apps/study/scopes.h"
#include "apps/study/statistics.h"
#include "apps/study/tables.h"

namespace onpa::apps {

/// Errors of predictions for the test tracks of a scope, in target units.
struct ErrorReport {
  RegressionMetrics metrics;
  ErrorIntervals intervals;
  BinBalanced balanced;
  std::vector<BinError> bins;
  double bias = 0;  // mean of prediction - target
};
ErrorReport report_errors(const data::DataSet& data,
                          const std::vector<TrackPrediction>& predictions, std::uint64_t seed,
                          int draws);

/// A trained model and what it predicts.
struct CellResult {
  ModelResult result;                                 // rows are those of the scope's data set
  std::vector<std::pair<double, double>> loss_curve;  // epoch, loss
  std::vector<std::pair<double, std::pair<double, double>>> eval_curve;  // epoch, RMSE and MAE
  std::int64_t parameters = 0, epochs = 0, steps = 0;
  double train_seconds = 0;            // of all epochs, as hours_per_epoch
  std::int64_t peak_memory_bytes = 0;  // 0: not known
  std::optional<double> energy_joules;
  std::string config, data_hash;  // settings as TOML, and DataSet::hash, that it was trained with
  std::optional<std::string> start;  // as TrainState::start
};

/// Evaluates a cell's run, and stores what it finds; or reads what an earlier call has stored.
/// `data` is the scope's. Nothing if asked to stop on the way. Throws as evaluate_run().
std::optional<CellResult> evaluate_cell(const StudyFolder& folder, const Cell& cell,
                                        const data::DataSet& data, const ComputeChoice& compute);

/// Settings and data that a cell was trained with, of its result or its run's newest checkpoint;
/// nothing if there is neither.
struct TrainedWith {
  Config config;
  std::string data_hash;
  std::optional<std::string> start;  // as TrainState::start
  bool evaluated = false;            // there is a result
};
std::optional<TrainedWith> trained_with(const StudyFolder& folder, const Cell& cell);

/// Predictions of another program: a CSV with the columns id and prediction, in popularity points,
/// for test tracks. Throws Error (kBadData) for a track that is not there or no number.
std::vector<TrackPrediction> read_peer(const std::filesystem::path& csv, const data::DataSet& data);

/// Adds to what training a cell has cost so far.
void add_cost(const StudyFolder& folder, const Cell& cell, const CellOutcome& outcome);

}  // namespace onpa::apps
