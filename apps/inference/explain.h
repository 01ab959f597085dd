// What a prediction rests on: attention maps and gradient attributions over time and frequency.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "nn/passt.h"
#include "tensor/tensor.h"

namespace onpa::apps {

enum class ExplainMethod : std::uint8_t {
  kRollout,        // attention of all layers, arXiv:2005.00928
  kAttention,      // attention of one layer
  kGradient,       // df / dx
  kGradientInput,  // df / dx * (x - silence)
  kIntegrated,     // integrated gradients from silence, arXiv:1703.01365
};
/// "rollout", "attention", "gradient", "gradient-input", "integrated".
const std::vector<std::string>& explain_method_names();
/// Throws Error (kUsage) for another name.
ExplainMethod explain_method_of(const std::string& name);
constexpr bool is_attention(ExplainMethod method) {
  return method == ExplainMethod::kRollout || method == ExplainMethod::kAttention;
}

struct ExplainOptions {
  ExplainMethod method = ExplainMethod::kRollout;
  std::int64_t layer = -1;   // kAttention; -1: the last
  std::int64_t head = -1;    // kAttention; -1: the mean over heads
  std::int64_t output = -1;  // of which f is a gradient; -1: the largest
  std::int64_t steps = 64;   // kIntegrated: points of the integral
};

struct Explanation {
  std::int64_t output = 0;
  // f: a regressor's prediction in the units of its target, a classifier's logit.
  double value = 0;
  // Of attention methods (grid_f, grid_t): what the class and the distillation token give to each
  // patch, on average; of the others (mels, frames): each cell's share. f32 on the CPU.
  Tensor map;
  // kIntegrated: f of silence; the map's sum should be value - silence_value.
  double silence_value = 0, sum = 0;

  /// |sum - (value - silence_value)| as a share of the larger of |value - silence_value| and the
  /// sum of the map's absolute values over 100: what the steps have missed.
  double gap() const;
};

/// Checks `options` against a model: throws Error (kUsage) naming the option that is out of range
/// or that the method does not have.
void check_explain_options(const ExplainOptions& options, const nn::PasstConfig& config);

/// Explains the prediction for mel (1, mels, frames), f32, where the model is. The model computes
/// in f32; its gradients are left as they are. Throws Error as check_explain_options() and Passt
/// do.
Explanation explain(nn::Passt& model, const ModelCard& card, const Tensor& mel,
                    const ExplainOptions& options);

/// What the front end makes of digital silence.
float silence_level(const audio::MelConfig& config);

/// A map over patches (grid_f, grid_t) as one over cells (mels, frames): the mean of the patches
/// that cover a cell, 0 where none does.
Tensor spread_over_cells(const Tensor& patches, const nn::PasstConfig& config, std::int64_t frames);

}  // namespace onpa::apps
