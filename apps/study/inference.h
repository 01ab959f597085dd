// Predictions of a model in memory, over rows of a data set.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "apps/study/evaluate.h"
#include "apps/study/model_card.h"
#include "data/loader.h"
#include "nn/dense.h"
#include "nn/passt.h"

namespace onpa::apps {

/// Asked between batches; true ends the work early, with what there is.
using StopCheck = std::function<bool()>;

/// Predictions for the rows whose audio can be read, in ascending order of rows. `options` gives
/// batch size, clip length, workers and cache. Tracks that cannot be read are left out with a
/// warning and appended to `unread` if it is given; throws Error (kBadData) when they are too many,
/// with `unread` filled all the same.
std::vector<TrackPrediction> predict_rows(nn::Passt& model, const ModelCard& card,
                                          const data::DataSet& data, std::vector<std::int64_t> rows,
                                          const data::LoaderOptions& options,
                                          const StopCheck& stop = {},
                                          std::vector<data::BadTrack>* unread = nullptr);

/// The same from features. The data set must hold card.feature_names (kConfig else).
std::vector<TrackPrediction> predict_rows(nn::Dense& model, const ModelCard& card,
                                          const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows,
                                          std::int64_t batch_size, const StopCheck& stop = {});

/// Warns, once in a process, if `loader` could not keep a track in its PCM cache.
void warn_of_cache(const data::AudioLoader& loader);

/// Scaled features (rows, features) of the given rows, in the card's order of features.
Tensor scaled_features(const ModelCard& card, const data::DataSet& data,
                       std::span<const std::int64_t> rows);

/// Rows that have an audio file named.
std::vector<std::int64_t> rows_with_audio(const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows);

}  // namespace onpa::apps
