// Where a run starts that does not start from nothing: `--init-from`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/support/config.h"
#include "apps/training/ranks.h"
#include "apps/training/train_task.h"
#include "apps/training/trainer.h"
#include "nn/adapt.h"
#include "tensor/flat_params.h"
#include "tensor/io/safetensors.h"

namespace onpa::apps {

/// Weights that a training can start from: a file of nn::read_weights(), a checkpoint, or a run, of
/// whose newest checkpoint the averaged ones are taken if there are any.
class StartWeights {
 public:
  /// Reads them; `set` as in WeightsChoice. Throws what open_weights() throws.
  explicit StartWeights(const std::filesystem::path& path, const std::string& set = "");

  /// The file or checkpoint.
  const std::string& name() const { return name_; }
  const io::SafetensorsFile& file() const { return file_; }
  /// Of names and values, whatever kind of file they came in; 16 hexadecimal digits.
  std::string hash() const;

  struct Fitted {
    Config config;
    nn::Adapted weights;
  };
  /// The settings and weights of a PaSST that starts from these: `config`, where the settings of
  /// architecture, front end and clip length are those of the weights unless their keys stand in
  /// `given`; and the weights as that model takes them. Throws Error (kConfig) naming the setting,
  /// its value, the weights' one and what to do.
  Fitted fit(const Config& config, const std::vector<std::string>& given) const;

 private:
  std::string name_;
  io::SafetensorsFile file_;
};

/// `options` as they are, unless they name weights to start a PaSST from. Then the settings of its
/// architecture, front end and clip length are those of the weights wherever nobody chose others,
/// and `start` holds the weights, fitted to it (nn/adapt.h), on rank 0. What may be chosen against
/// the weights: model.table_t, and model.depth as nn::kept_blocks() has it; a run has one output,
/// so another head is replaced. A run that has a checkpoint goes on: the settings are its own, and
/// the weights are not read.
///
/// A collective; only rank 0 needs to reach the files. Throws Error, on all ranks: kConfig naming
/// the setting, its value, the weights' one and what to do; what nn::read_weights() throws.
TrainOptions with_start(const TrainOptions& options, const data::DataSet& data, Ranks& ranks);

/// Copies the weights that `options` name into the task's module, which is initialised and of which
/// `params` was made, and returns their StartWeights::hash(). Throws Error: kConfig if they are
/// another kind of model, or a Dense's of other features; kBadCheckpoint.
std::string load_start(const TrainOptions& options, TrainTask& task, const FlatParams& params);

}  // namespace onpa::apps
