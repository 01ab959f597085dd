// A trained model opened for use.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/inference/inference.h"
#include "apps/inference/model_card.h"
#include "apps/support/compute_device.h"
#include "data/table.h"
#include "nn/checkpoint.h"
#include "nn/weights_file.h"

namespace onpa::apps {

/// The weights that `path` names: of a run folder (its newest valid checkpoint) or a checkpoint
/// folder, its averaged weights if there are any; else nn::read_weights(). Logs which of several
/// sets it takes. Throws as Predictor's constructor.
nn::WeightsFile open_weights(const std::filesystem::path& path, const WeightsChoice& choice);

class Predictor {
 public:
  /// Opens a run folder (its newest valid checkpoint), a checkpoint folder or a file of weights
  /// (nn::read_weights); of a run or checkpoint the averaged weights if there are any. A PaSST file
  /// without metadata gets its architecture from its shapes. `choice` is for files of weights.
  /// Throws Error: kInputMissing, kBadCheckpoint, kConfig (see ModelCard::read), kUsage for a
  /// choice where there is none.
  explicit Predictor(const std::filesystem::path& path, const WeightsChoice& choice = {});
  explicit Predictor(const nn::FoundCheckpoint& checkpoint);
  ~Predictor();
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;

  /// Moves the model to where it is to compute; on the CPU, in f32, at first. Throws Error:
  /// kDevice, kOutOfMemory.
  void compute_on(const ComputeChoice& choice);

  const ModelCard& card() const { return card_; }
  /// The file or folder that the weights came from.
  const std::filesystem::path& source() const { return source_; }
  /// Null for the other kind of model.
  nn::Passt* passt() { return passt_.get(); }
  nn::Dense* dense() { return dense_.get(); }

  struct Output {
    std::vector<float> logits, features;  // features: audio only
    std::vector<double> prediction;       // logits in the units of the target
  };
  /// A mono waveform at card().mel.rate_hz, any length: under one patch it is padded with zeros,
  /// over the time table it is cut with a warning that names `name`. Audio models only.
  Output predict(std::span<const float> wave, const std::string& name);
  /// Rows of a table with a column for each of the card's features, spelled as for `prepare`. Dense
  /// models only. Throws Error (kBadData) naming the column that is missing or the cell that is no
  /// finite number.
  std::vector<Output> predict(const data::Table& table);

 private:
  void load(const nn::WeightsFile& weights, int hop = 0);

  std::filesystem::path source_;
  ModelCard card_;
  std::unique_ptr<nn::Passt> passt_;
  std::unique_ptr<nn::Dense> dense_;
};

/// The newest checkpoint of a run or checkpoint folder that verifies. Throws Error: kInputMissing
/// if there is no such folder, kBadCheckpoint if none verifies.
nn::FoundCheckpoint open_checkpoint(const std::filesystem::path& folder);

}  // namespace onpa::apps
