// Predictions of a model in memory, over rows of a data set.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/study/evaluate.h"
#include "data/loader.h"
#include "data/shard.h"
#include "nn/dense.h"
#include "nn/passt.h"

namespace onpa::apps {

/// Asked between batches; true ends the work early, with what there is.
using StopCheck = std::function<bool()>;

/// The shortest waveform that a model takes, in samples: the front end can reflect it at its edges
/// and it fills one patch. Predictions pad shorter ones with zeros to this length.
std::int64_t shortest_samples(const ModelCard& card);

/// Predictions for the rows whose audio can be read, in ascending order of rows. `options` gives
/// the largest batch, workers and cache; the clip length is the card's, and a card without one
/// (0) takes clips whole. Only clips of equal length share a batch, so what a track is predicted to
/// be depends on its own audio alone (and, in the last bits, on the size of its batch). Tracks that
/// cannot be read are left out with a warning and appended to `unread` if it is given; throws Error
/// (kBadData) when they are too many, with `unread` filled all the same.
///
/// Where there are several ranks, all call it alike but for `stop`; each predicts Shard::part() of
/// the rows and all get the predictions and the unread tracks of all. If one fails, the others
/// throw Error (kStopped) naming it.
std::vector<TrackPrediction> predict_rows(nn::Passt& model, const ModelCard& card,
                                          const data::DataSet& data, std::vector<std::int64_t> rows,
                                          const data::LoaderOptions& options,
                                          const StopCheck& stop = {},
                                          std::vector<data::BadTrack>* unread = nullptr,
                                          const data::Shard& shard = {});

/// The same from features. The data set must hold card.feature_names (kConfig else).
std::vector<TrackPrediction> predict_rows(nn::Dense& model, const ModelCard& card,
                                          const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows,
                                          std::int64_t batch_size, const StopCheck& stop = {},
                                          const data::Shard& shard = {});

/// The models' outputs (B, outputs), f32 on the CPU, in evaluation mode and without gradients: of
/// waveforms (B, S), f32 on the CPU, through the card's front end; of scaled features (B, inputs).
/// What predict_rows() computes of a batch. Throws Error (kOutOfMemory).
Tensor logits_of(nn::Passt& model, const ModelCard& card, const Tensor& wave);
Tensor logits_of(nn::Dense& model, const Tensor& features);

/// Warns, once in a process, if `loader` could not keep a track in its PCM cache, or had no process
/// to decode in.
void warn_of_loader(const data::AudioLoader& loader);

/// Scaled features (rows, features) of the given rows, in the card's order of features.
Tensor scaled_features(const ModelCard& card, const data::DataSet& data,
                       std::span<const std::int64_t> rows);

/// `x` (f32, CPU) where the model's parameters are, and in their dtype.
Tensor for_model(const Tensor& x, const nn::Module& model);
/// `y` as f32 on the CPU.
Tensor on_host(const Tensor& y);

/// Rows that have an audio file named.
std::vector<std::int64_t> rows_with_audio(const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows);

}  // namespace onpa::apps
