// What must travel with a model's weights for them to be used again: sizes, front end, scales.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "audio/mel.h"
#include "data/dataset.h"
#include "nn/dense.h"
#include "nn/passt.h"
#include "tensor/io/safetensors.h"

namespace onpa::apps {

/// What a person decides where a file of weights leaves it open.
struct WeightsChoice {
  std::string set;  // which of several sets of weights (nn::read_weights); "" for the default
  int hop = 0;      // samples between the front end's frames; 0: as the file or its shapes say
};

/// Written as the metadata of model.safetensors. A bare PaSST file has none: its card has the
/// architecture that the shapes show and the front end of the public code, with the hop and clip
/// length that the time table was published for.
struct ModelCard {
  std::string kind;  // "passt" or "dense"
  // prediction = logit * target_std + target_mean, in the units of Track::target; a bare file's
  // logits are left as they are.
  double target_mean = 0, target_std = 1;

  nn::PasstConfig passt;
  audio::MelConfig mel;
  double seconds = 0;  // clip length in training; 0: any

  nn::DenseConfig dense;
  std::vector<std::string> feature_names;
  data::Scaler features;

  std::map<std::string, std::string> metadata() const;
  /// Throws Error (kBadCheckpoint) naming `name` and what is missing, unexpected or of another
  /// shape, if these are not the tensors of a model of this card.
  void check_tensors(const io::NamedTensors& tensors, const std::string& name) const;
  /// Throws Error: kBadCheckpoint naming `name` and the entry that is missing or wrong; kConfig if
  /// `hop` (see WeightsChoice) contradicts the file, or is needed: a bare file whose table fits no
  /// published input, or two whose hops differ and which its name does not tell apart.
  static ModelCard read(const io::SafetensorsFile& file, const std::string& name, int hop = 0);
};

}  // namespace onpa::apps
