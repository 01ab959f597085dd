#include "apps/study/tables.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/study/statistics.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

constexpr std::uint64_t kTableSeed = 1;  // of the bootstrap

// Targets and predictions of the tracks that every model predicted, ascending by row.
struct CommonTracks {
  std::vector<std::int64_t> rows;
  std::vector<float> target;
  std::vector<std::vector<float>> prediction;  // one a model

  CommonTracks(const data::DataSet& data, const std::vector<ModelResult>& results) {
    if (results.empty()) fail(ExitCode::kBadData, "tables: no model to compare");
    std::map<std::int64_t, std::vector<float>> by_row;
    for (std::size_t m = 0; m < results.size(); ++m) {
      for (const TrackPrediction& p : results[m].predictions) {
        if (p.row < 0 || p.row >= std::ssize(data.tracks)) {
          fail(ExitCode::kBadData, "tables: ", results[m].model, " predicts row ", p.row,
               ", the data set has ", data.tracks.size());
        }
        std::vector<float>& values = by_row[p.row];
        if (values.size() == m) values.push_back(p.prediction);
      }
    }
    prediction.resize(results.size());
    for (const auto& [row, values] : by_row) {
      if (values.size() != results.size()) continue;
      rows.push_back(row);
      target.push_back(data.tracks[static_cast<std::size_t>(row)].target);
      for (std::size_t m = 0; m < values.size(); ++m) prediction[m].push_back(values[m]);
    }
    if (rows.empty()) {
      fail(ExitCode::kBadData, "tables: no track has a prediction of every model");
    }
  }
};

std::vector<float> feature_matrix(const data::DataSet& data,
                                  const std::vector<std::int64_t>& rows) {
  std::vector<float> x;
  x.reserve(rows.size() * data.feature_names.size());
  for (const std::int64_t row : rows) {
    const std::vector<float>& features = data.tracks[static_cast<std::size_t>(row)].features;
    x.insert(x.end(), features.begin(), features.end());
  }
  return x;
}

Table2Row group_row(const std::string& genre, const std::vector<std::size_t>& members,
                    const CommonTracks& common) {
  Table2Row row{
      .genre = genre, .n = std::ssize(members), .mae = {}, .rank = {}, .mae_interval = {}};
  for (const std::vector<float>& prediction : common.prediction) {
    std::vector<double> errors;
    double sum = 0;
    for (const std::size_t i : members) {
      errors.push_back(static_cast<double>(common.target[i]) - prediction[i]);
      sum += std::abs(errors.back());
    }
    row.mae.push_back(sum / static_cast<double>(members.size()));
    row.mae_interval.push_back(bootstrap_errors(errors, kTableSeed).mae);
  }
  return row;
}

}  // namespace

std::vector<std::pair<std::string, std::vector<float>>> baseline_predictions(
    const data::DataSet& data, const std::vector<std::int64_t>& rows) {
  const std::vector<std::int64_t> train = data.indices(data::Split::kTrain);
  if (train.empty()) fail(ExitCode::kBadData, "tables: the data set has no train tracks");
  std::vector<float> target;
  for (const std::int64_t row : train) {
    target.push_back(data.tracks[static_cast<std::size_t>(row)].target);
  }
  std::vector<std::pair<std::string, std::vector<float>>> out;
  const auto mean = static_cast<float>(fit_linear({}, target, 0).intercept);
  out.emplace_back("constant mean", std::vector<float>(rows.size(), mean));
  if (!data.feature_names.empty()) {
    const LinearModel linear =
        fit_linear(feature_matrix(data, train), target, std::ssize(data.feature_names));
    out.emplace_back("linear", linear.predict(feature_matrix(data, rows)));
  }
  return out;
}

Table1 make_table1(const data::DataSet& data, const std::vector<ModelResult>& results,
                   const std::vector<double>& floors) {
  ONPA_CHECK(floors.empty() || floors.size() == results.size(), "make_table1: ", floors.size(),
             " floors for ", results.size(), " models");
  const CommonTracks common(data, results);
  std::vector<double> popularity;
  for (const std::int64_t row : common.rows) {
    popularity.push_back(data.tracks[static_cast<std::size_t>(row)].popularity);
  }

  Table1 table;
  table.train_tracks = std::ssize(data.indices(data::Split::kTrain));
  table.test_tracks = std::ssize(common.rows);
  const auto add = [&](const std::string& name, const std::vector<float>& prediction, double hours,
                       double floor) {
    std::vector<double> errors;
    for (std::size_t i = 0; i < prediction.size(); ++i) {
      errors.push_back(static_cast<double>(common.target[i]) - prediction[i]);
    }
    table.rows.push_back({.model = name,
                          .metrics = regression_metrics(common.target, prediction),
                          .hours_per_epoch = hours,
                          .floor_rmse = floor,
                          .mae_interval = bootstrap_errors(errors, kTableSeed).mae,
                          .balanced = bin_balanced(errors_by_bin(popularity, errors))});
  };
  for (std::size_t m = 0; m < results.size(); ++m) {
    add(results[m].model, common.prediction[m], results[m].hours_per_epoch,
        floors.empty() ? kUnknown : floors[m]);
  }
  for (const auto& [name, prediction] : baseline_predictions(data, common.rows)) {
    add(name, prediction, kUnknown, kUnknown);
  }
  return table;
}

void rank_rows(Table2& table) {
  for (Table2Row& row : table.rows) row.rank.assign(row.mae.size(), 0);
  for (std::size_t m = 0; m < table.models.size(); ++m) {
    std::vector<double> column;
    for (const Table2Row& row : table.rows) {
      if (!std::isnan(row.mae[m])) column.push_back(row.mae[m]);
    }
    const std::vector<std::int64_t> ranks = ranks_ascending(column);
    auto next = ranks.begin();
    for (Table2Row& row : table.rows) {
      if (!std::isnan(row.mae[m])) row.rank[m] = *next++;
    }
  }
}

Table2 make_table2(const data::DataSet& data, const std::vector<ModelResult>& results,
                   std::int64_t min_tracks, const std::string& training) {
  const CommonTracks common(data, results);
  std::map<std::string, std::vector<std::size_t>> groups;
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < common.rows.size(); ++i) {
    all.push_back(i);
    for (const std::string& genre :
         data.tracks[static_cast<std::size_t>(common.rows[i])].genres()) {
      groups[genre].push_back(i);
    }
  }
  Table2 table;
  table.training = training;
  for (const ModelResult& result : results) table.models.push_back(result.model);
  table.rows.push_back(group_row("all data", all, common));
  for (const auto& [genre, members] : groups) {
    if (std::ssize(members) >= min_tracks) table.rows.push_back(group_row(genre, members, common));
  }
  rank_rows(table);
  return table;
}

}  // namespace onpa::apps
