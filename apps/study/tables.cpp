#include "apps/study/tables.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/study/statistics.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

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
  Table2Row row{.genre = genre, .n = std::ssize(members), .mae = {}, .rank = {}};
  for (const std::vector<float>& prediction : common.prediction) {
    double sum = 0;
    for (const std::size_t i : members) {
      sum += std::abs(static_cast<double>(common.target[i]) - prediction[i]);
    }
    row.mae.push_back(sum / static_cast<double>(members.size()));
  }
  return row;
}

}  // namespace

Table1 make_table1(const data::DataSet& data, const std::vector<ModelResult>& results,
                   const std::vector<double>& floors) {
  ONPA_CHECK(floors.empty() || floors.size() == results.size(), "make_table1: ", floors.size(),
             " floors for ", results.size(), " models");
  const CommonTracks common(data, results);
  const std::vector<std::int64_t> train = data.indices(data::Split::kTrain);
  if (train.empty()) fail(ExitCode::kBadData, "tables: the data set has no train tracks");
  std::vector<float> train_target;
  for (const std::int64_t row : train) {
    train_target.push_back(data.tracks[static_cast<std::size_t>(row)].target);
  }

  Table1 table;
  table.train_tracks = std::ssize(train);
  table.test_tracks = std::ssize(common.rows);
  for (std::size_t m = 0; m < results.size(); ++m) {
    table.rows.push_back({.model = results[m].model,
                          .metrics = regression_metrics(common.target, common.prediction[m]),
                          .hours_per_epoch = results[m].hours_per_epoch,
                          .floor_rmse = floors.empty() ? kUnknown : floors[m]});
  }
  const auto baseline = [&](const char* name, const std::vector<float>& prediction) {
    table.rows.push_back({.model = name,
                          .metrics = regression_metrics(common.target, prediction),
                          .hours_per_epoch = kUnknown,
                          .floor_rmse = kUnknown});
  };
  const LinearModel mean = fit_linear({}, train_target, 0);
  baseline("constant mean",
           std::vector<float>(common.rows.size(), static_cast<float>(mean.intercept)));
  if (!data.feature_names.empty()) {
    const LinearModel linear =
        fit_linear(feature_matrix(data, train), train_target, std::ssize(data.feature_names));
    baseline("linear", linear.predict(feature_matrix(data, common.rows)));
  }
  return table;
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
  for (std::size_t m = 0; m < results.size(); ++m) {
    std::vector<double> column;
    for (const Table2Row& row : table.rows) column.push_back(row.mae[m]);
    const std::vector<std::int64_t> ranks = ranks_ascending(column);
    for (std::size_t r = 0; r < ranks.size(); ++r) table.rows[r].rank.push_back(ranks[r]);
  }
  return table;
}

}  // namespace onpa::apps
