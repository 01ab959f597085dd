// The study's two tables: accuracy and cost of each model, and the error of each model per genre.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "apps/study/evaluate.h"
#include "apps/study/metrics.h"
#include "apps/study/statistics.h"
#include "data/dataset.h"
#include "tensor/io/file.h"

namespace onpa::apps {

struct Table1Row {
  std::string model;
  RegressionMetrics metrics;   // in the units of the target, a range of width 1
  double hours_per_epoch = 0;  // NaN for a baseline
  double floor_rmse = 0;       // the lowest that is possible, where it is known; else NaN
  Interval mae_interval = {};  // 95 %, from a bootstrap over the test tracks
  BinBalanced balanced = {};   // over bins of 5 popularity points
};

/// One row a model, then the baselines "constant mean" and "linear" (least squares on the
/// features), both fitted to the kept train rows.
struct Table1 {
  std::vector<Table1Row> rows;
  std::int64_t train_tracks = 0;
  std::int64_t test_tracks = 0;
};

struct Table2Row {
  std::string genre;  // "all data" in the first row
  std::int64_t n = 0;
  std::vector<double> mae;         // one a model; NaN where it has none
  std::vector<std::int64_t> rank;  // within the model's column, 1 the smallest; "all data" takes
                                   // part; 0 where there is no MAE
  std::vector<Interval> mae_interval;  // as Table1Row's
};

struct Table2 {
  std::string training;  // how the models were trained, printed above the table
  std::vector<std::string> models;
  std::vector<Table2Row> rows;  // "all data", then by name
};

/// Predictions for `rows` of the baselines: "constant mean" and, where there are features,
/// "linear", both fitted to the kept train rows. Throws Error (kBadData) without train rows.
std::vector<std::pair<std::string, std::vector<float>>> baseline_predictions(
    const data::DataSet& data, const std::vector<std::int64_t>& rows);

/// Tables over the tracks that every model has a prediction for. A track in k genres counts in k
/// groups; groups of fewer than `min_tracks` are left out. `floors` (empty, or one a model) go into
/// Table1Row::floor_rmse. Throws Error (kBadData) without results, without a common track or
/// without train rows.
Table1 make_table1(const data::DataSet& data, const std::vector<ModelResult>& results,
                   const std::vector<double>& floors = {});
Table2 make_table2(const data::DataSet& data, const std::vector<ModelResult>& results,
                   std::int64_t min_tracks = 1,
                   const std::string& training = "one model of each kind, trained on all data");

/// Fills in the ranks of each column.
void rank_rows(Table2& table);

/// Aligned columns for a terminal.
std::string table_text(const Table1& table);
std::string table_text(const Table2& table);
/// A GitHub table.
std::string table_markdown(const Table1& table);
std::string table_markdown(const Table2& table);
/// Comma-separated, with a header.
std::string table_csv(const Table1& table);
std::string table_csv(const Table2& table);
/// {"rows": [{"model", "n", "rmse", "mae", "mae_interval": [low, high], "bin_balanced", "r2",
/// "hours_per_epoch", ...}]} and {"training", "models", "rows": [{"genre", "n", "mae": {model: x},
/// "mae_interval": {model: [low, high]}, "rank": {model: k}}]}; what is not known is null.
std::string table_json(const Table1& table);
std::string table_json(const Table2& table);

/// One row a model and track: model, id, genre, target, prediction, absolute_error.
std::string predictions_csv(const data::DataSet& data, const std::vector<ModelResult>& results);

/// Adds table1, if it has rows, and table2 to what is to be written into `folder`, as .json, .csv
/// and .md. Throws Error (kCannotCreate, kIo).
void stage_tables(const std::filesystem::path& folder, const Table1& table1, const Table2& table2,
                  std::vector<io::StagedFile>& files);

/// Writes the tables as stage_tables() and predictions.csv into `folder`: all of them
/// or, if it throws Error (kCannotCreate, kIo), none.
void write_results(const std::filesystem::path& folder, const data::DataSet& data,
                   const std::vector<ModelResult>& results, const Table1& table1,
                   const Table2& table2);

}  // namespace onpa::apps
