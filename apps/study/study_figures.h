// How single figures stand in study.json. What is not finite is null there.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apps/study/corpus.h"
#include "apps/study/evaluate.h"
#include "apps/study/metrics.h"
#include "apps/study/statistics.h"
#include "data/dataset.h"

namespace onpa::apps {

nlohmann::ordered_json number_json(double value);
nlohmann::ordered_json range_json(const Interval& interval);
nlohmann::ordered_json metrics_json(const RegressionMetrics& m);
nlohmann::ordered_json balanced_json(const BinBalanced& b);
/// Program, time and machine.
nlohmann::ordered_json made_json(bool gpu);
/// How many tracks lie in each bin of true and predicted popularity.
nlohmann::ordered_json predicted_true_json(const data::TargetMap& map,
                                           const std::vector<TrackPrediction>& predictions);
/// The ten largest errors.
nlohmann::ordered_json worst_json(const data::DataSet& data,
                                  std::vector<TrackPrediction> predictions);
/// The tracks that a run decoded slowest; none if everything came out of the cache. Throws Error
/// (kBadData) for a list that is something else.
nlohmann::ordered_json slowest_json(const std::filesystem::path& run);
/// The lowest errors that are possible, if `data` was prepared from a corpus with known answers.
std::optional<Floors> floors_of(const data::DataSet& data);

}  // namespace onpa::apps
