// One model on one data set, as the training loop sees it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/inference/inference.h"
#include "apps/inference/model_card.h"
#include "apps/support/config.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/shard.h"
#include "nn/dense.h"
#include "nn/module.h"
#include "tensor/tensor.h"

namespace onpa::apps {

/// A batch as the CPU prepares it; where several ranks share it, this rank's part of it.
struct HostBatch {
  std::vector<Tensor> inputs = {};  // in the order that TrainTask::loss() takes them
  std::int64_t samples = 0;         // of this rank; if 0, there are no inputs and no loss
  std::int64_t total = 0;           // of the whole batch, over all ranks
  std::int64_t first = 0;           // place of this rank's first sample in the whole batch
  std::int64_t cursor = 0;          // where the epoch goes on after it
};

/// What a Dense learns from, all of it, scaled: the rows of TrainRows::train in their order, or
/// with data.rare=smogn what with_smogn() makes of them.
struct DenseRows {
  nn::DenseConfig model;
  Tensor x, y;  // (rows, inputs) and (rows, 1) f32
};

class TrainTask {
 public:
  virtual ~TrainTask() = default;
  virtual nn::Module& module() = 0;
  virtual void initialize(std::uint64_t seed) = 0;
  /// What is to be written with the weights; its scales are fitted to TrainRows::train.
  virtual const ModelCard& card() const = 0;

  /// Starts an epoch at `cursor`: 0, or HostBatch::cursor of the last batch that was used. The next
  /// batch will be asked for with `draw`, those after it with the numbers that follow.
  virtual void start_epoch(std::uint64_t epoch, std::int64_t cursor, std::uint64_t draw) = 0;
  /// The next batch with all that the CPU draws for it, or false at the epoch's end. Draws depend
  /// on (train.seed, `draw`, sample). Ranks that share batches call it alike. Throws Error:
  /// kBadData when too many tracks cannot be read, on all ranks; kStopped when another rank failed.
  virtual bool next_batch(std::uint64_t draw, HostBatch& batch) = 0;
  /// The loss (1), differentiable, of a batch's inputs where the model is: the mean over this
  /// rank's samples, of which the first is sample `first_row` of the whole batch. On the GPU it
  /// must do the same for all batches of equal shapes and `first_row`: draws there take their step
  /// from the module's step_state() instead of `draw`.
  virtual Tensor loss(const std::vector<Tensor>& inputs, std::uint64_t draw,
                      std::int64_t first_row) = 0;

  /// Where the model is a Dense, so that steps need no batches from here; else null. A batch is the
  /// next train.batch_size rows in ShuffledOrder(train.seed, epoch, rows), a cursor a place in it.
  virtual const DenseRows* dense_rows() const { return nullptr; }

  /// Upper bound: bad files can make an epoch shorter.
  virtual std::int64_t batches_per_epoch() const = 0;
  virtual std::int64_t samples_per_epoch() const = 0;

  /// TrainRows::evaluated.
  virtual const std::string& evaluated() const = 0;
  /// Predictions for TrainRows::evaluation with the module's present parameters. Ranks call it
  /// alike, predict a part each and all get all; `stop` may differ. Throws as next_batch().
  virtual std::vector<TrackPrediction> predict_held_out(const StopCheck& stop) = 0;
  /// Tracks of either list that could not be used; the same one may be listed more than once.
  virtual std::vector<data::BadTrack> bad_tracks() const { return {}; }
  /// As data::AudioLoader::slowest(), of the tracks to train on.
  virtual std::vector<data::DecodeTime> slowest_tracks() const { return {}; }
  /// Seconds spent waiting for data so far.
  virtual double wait_seconds() const { return 0; }
};

/// Makes a batch, with targets that may be changed; there is always another.
using ClipSource = std::function<data::AudioBatch()>;
/// Of train_rows(). Throws as it. The data set must outlive it.
/// `clips`, if given, takes the place of the files that the data set names; one rank only. With
/// several ranks in `shard` a batch is that of all of them.
std::unique_ptr<TrainTask> make_passt_task(const Config& config, const data::DataSet& data,
                                           ClipSource clips = {}, const data::Shard& shard = {});
std::unique_ptr<TrainTask> make_dense_task(const Config& config, const data::DataSet& data,
                                           const data::Shard& shard = {});

/// Mean and standard deviation of the targets (1 if it is 0), or 0 and 1 if they are not to be
/// standardised.
void fit_target_scale(const Config& config, const data::DataSet& data,
                      const std::vector<std::int64_t>& rows, ModelCard& card);
/// Loader settings of a config.
data::LoaderOptions loader_options(const Config& config);

}  // namespace onpa::apps
