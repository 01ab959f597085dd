// One model on one data set, as the training loop sees it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "apps/study/inference.h"
#include "apps/study/model_card.h"
#include "apps/support/config.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "nn/dense.h"
#include "nn/module.h"
#include "tensor/tensor.h"

namespace onpa::apps {

/// A batch as the CPU prepares it.
struct HostBatch {
  std::vector<Tensor> inputs;  // in the order that TrainTask::loss() takes them
  std::int64_t samples = 0;
  std::int64_t cursor = 0;  // where the epoch goes on after it
};

/// What a Dense learns from, all of it, in the order of the train split; scaled.
struct DenseRows {
  nn::DenseConfig model;
  Tensor x, y;  // (rows, inputs) and (rows, 1) f32
};

class TrainTask {
 public:
  virtual ~TrainTask() = default;
  virtual nn::Module& module() = 0;
  virtual void initialize(std::uint64_t seed) = 0;
  /// What is to be written with the weights; its scales are fitted to the train split.
  virtual const ModelCard& card() const = 0;

  /// Starts an epoch at `cursor`: 0, or HostBatch::cursor of the last batch that was used.
  virtual void start_epoch(std::uint64_t epoch, std::int64_t cursor) = 0;
  /// The next batch with all that the CPU draws for it, or false at the epoch's end. Draws depend
  /// on (train.seed, `draw`, sample). Throws Error (kBadData) when too many tracks cannot be read.
  virtual bool next_batch(std::uint64_t draw, HostBatch& batch) = 0;
  /// The loss (1), differentiable, of a batch's inputs where the model is. On the GPU it must do
  /// the same for all batches of equal shapes: draws there take their step from the module's
  /// step_state() instead of `draw`.
  virtual Tensor loss(const std::vector<Tensor>& inputs, std::uint64_t draw) = 0;

  /// Where the model is a Dense, so that steps need no batches from here; else null. A batch is the
  /// next train.batch_size rows in ShuffledOrder(train.seed, epoch, rows), a cursor a place in it.
  virtual const DenseRows* dense_rows() const { return nullptr; }

  /// Upper bound: bad files can make an epoch shorter.
  virtual std::int64_t batches_per_epoch() const = 0;
  virtual std::int64_t samples_per_epoch() const = 0;

  /// Predictions for the test split with the module's present parameters.
  virtual std::vector<TrackPrediction> predict_test(const StopCheck& stop) = 0;
  /// Tracks of either split that could not be used; the same one may be listed more than once.
  virtual std::vector<data::BadTrack> bad_tracks() const { return {}; }
  /// Seconds spent waiting for data so far.
  virtual double wait_seconds() const { return 0; }
};

/// Makes a batch, with targets that may be changed; there is always another.
using ClipSource = std::function<data::AudioBatch()>;
/// Throws Error (kBadData) if the data set has nothing to train on. The data set must outlive it.
/// `clips`, if given, takes the place of the files that the data set names.
std::unique_ptr<TrainTask> make_passt_task(const Config& config, const data::DataSet& data,
                                           ClipSource clips = {});
std::unique_ptr<TrainTask> make_dense_task(const Config& config, const data::DataSet& data);

/// Mean and standard deviation of the targets (1 if it is 0), or 0 and 1 if they are not to be
/// standardised.
void fit_target_scale(const Config& config, const data::DataSet& data,
                      const std::vector<std::int64_t>& rows, ModelCard& card);
/// Loader settings of a config.
data::LoaderOptions loader_options(const Config& config);

}  // namespace onpa::apps
