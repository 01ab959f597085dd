// What a training run must remember to go on with the same bits, and its way to and from a
// checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apps/inference/model_card.h"
#include "apps/support/config.h"
#include "apps/training/optimizer_parts.h"
#include "apps/training/ranks.h"
#include "nn/checkpoint.h"
#include "nn/optim.h"
#include "tensor/flat_params.h"

namespace onpa::apps {

struct TrainState {
  std::int64_t step = 0;     // steps taken, those skipped for a loss that was not finite included
  std::int64_t epoch = 0;    // epochs finished
  std::int64_t cursor = 0;   // where the running epoch goes on
  std::int64_t samples = 0;  // clips or rows learned from
  std::int64_t nonfinite_run = 0;  // steps skipped in a row
  std::int64_t nonfinite_total = 0;
  std::int64_t epoch_first_step = 0;  // step at which the running epoch began
  bool epoch_closed = true;           // the last finished epoch has been evaluated, if it was due
  std::int64_t evaluated_step = -1;   // step of the last evaluation
  double train_seconds = 0;           // loading and learning, without evaluation and checkpoints
  // Lowest so far on TrainRows::evaluation: picked there, it is biased low and decides nothing. 0:
  // not evaluated yet.
  double best_rmse = 0;
  std::int64_t best_step = 0;
  double hours_per_epoch = 0;
  // Since the last line of metrics, or the beginning of the epoch: steps, and the sum of their
  // losses.
  std::int64_t line_steps = 0;
  double line_loss = 0;
  std::string data, data_hash;  // folder and DataSet::hash
  // StartWeights::hash() of what the run began with, empty if with nothing; unknown of a run that
  // began under version 0.1.0.
  std::optional<std::string> start;

  std::string to_json() const;
  /// Throws Error (kBadCheckpoint) naming the entry that is missing or of another type.
  static TrainState from_json(const std::string& text);
};

/// The parts of a run that a checkpoint holds.
struct TrainParts {
  const FlatParams& params;
  nn::Optimizer& optimizer;
  nn::AveragedParams* average = nullptr;  // null: none is kept
};

/// Tensors share memory with `parts` and `moments`, those of all parameters that learn: save before
/// the next step.
nn::CheckpointContent make_checkpoint(const TrainState& state, const TrainParts& parts,
                                      const Moments& moments, const ModelCard& card,
                                      const Config& config);
/// What becomes of a moment that the checkpoint lacks: a parameter that was frozen has none.
enum class NewMoments : std::uint8_t { kRefused, kZero };

/// Copies a checkpoint's weights and step count into `parts`, its moments into `moments`, which are
/// zero. Throws Error (kBadCheckpoint) naming the tensor that is missing or has another shape,
/// before anything is changed.
TrainState restore_checkpoint(const nn::CheckpointContent& content, const TrainParts& parts,
                              const Moments& moments, NewMoments missing);
/// The same for the averaged weights; leaves `average` as it is if the checkpoint has none.
void restore_average(const nn::CheckpointContent& content, const FlatParams& params,
                     nn::AveragedParams& average);

/// Copies weights alone into the parameters. Throws Error (kBadCheckpoint) as above.
void restore_weights(const io::NamedTensors& tensors, const FlatParams& params);

/// Gives all ranks the weights, the optimizer's count and the average (all of them have one, or
/// none) of rank 0, and of its `moments` what they are to keep; on the CPU.
void broadcast_state(const Ranks& ranks, FlatParams& params, nn::Optimizer& optimizer,
                     const Moments& moments, nn::AveragedParams* average);

/// True if every parameter is finite.
bool all_finite(const Tensor& tensor);

}  // namespace onpa::apps
