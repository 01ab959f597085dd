#include "apps/inference/explain.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/inference/inference.h"
#include "apps/support/suggest.h"
#include "kernels/error.h"
#include "nn/attention_maps.h"
#include "tensor/autograd.h"
#include "tensor/ops/linear.h"

namespace onpa::apps {
namespace {

constexpr std::int64_t kPrefix = 2;  // class and distillation token
// Of activations that a batch of the integral's points may keep; one point alone may take more.
constexpr double kMostActivationBytes = 512.0 * (1 << 20);
constexpr std::int64_t kMostPoints = 16;

// The model in evaluation mode, its parameters without gradients, while one lives.
class Frozen {
 public:
  explicit Frozen(nn::Passt& model) : model_(model), was_training_(model.training()) {
    model_.train(false);
    for (const nn::NamedParameter& p : model_.parameters()) {
      wanted_.push_back(p.tensor.requires_grad());
      Tensor(p.tensor).set_requires_grad(false);
    }
  }
  ~Frozen() {
    model_.train(was_training_);
    std::size_t i = 0;
    for (const nn::NamedParameter& p : model_.parameters()) {
      Tensor(p.tensor).set_requires_grad(wanted_[i++]);
    }
  }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;

 private:
  nn::Passt& model_;
  bool was_training_;
  std::vector<bool> wanted_;
};

double in_target_units(const ModelCard& card, double logit) {
  return logit * card.target_std + card.target_mean;
}

std::int64_t largest(const Tensor& logits) {
  const auto values = logits.span<float>();
  return std::max_element(values.begin(), values.end()) - values.begin();
}

// One output of a model as a function of the tokens.
class Output {
 public:
  Output(const nn::Passt& model, const ModelCard& card, std::int64_t output)
      : model_(model), card_(card), output_(output) {}

  // The sum over the batch of weight times the gradient in the tokens; (N, C), f32 on the CPU.
  Tensor gradient(Tensor tokens, const std::vector<float>& weights) const {
    const DeviceKind device = tokens.device();
    const auto batch = static_cast<std::int64_t>(weights.size());
    tokens.set_requires_grad();
    const Tensor logits = model_.forward_tokens(tokens).logits;
    const Tensor one_hot = Tensor::zeros({logits.size(1), 1});
    one_hot.data<float>()[output_] = 1;
    const Tensor chosen = ops::matmul(logits, one_hot.to(device));
    backward(ops::matmul(Tensor::from<float>({1, batch}, weights).to(device), chosen),
             card_.target_std);
    const Tensor each = on_host(tokens.grad());
    const std::int64_t values = each.numel() / batch;
    const Tensor sum = Tensor::zeros({tokens.size(1), tokens.size(2)});
    for (std::int64_t b = 0; b < batch; ++b) {
      const float* from = each.data<float>() + b * values;
      for (std::int64_t i = 0; i < values; ++i) sum.data<float>()[i] += from[i];
    }
    return sum;
  }

 private:
  const nn::Passt& model_;
  const ModelCard& card_;
  std::int64_t output_;
};

// The gradient in the tokens (N, C), prefix included, carried back to the cells (mels, frames):
// patches overlap, so each adds to the cells that it covers.
Tensor carry_to_cells(const nn::Passt& model, const Tensor& gradient, const ops::PatchGrid& grid,
                      std::int64_t frames) {
  const nn::PasstConfig& c = model.config();
  const Tensor weight = on_host(model.patch_weight()).view({c.width, c.patch_f * c.patch_t});
  const NoGrad no_grad;
  const Tensor patches = ops::matmul(gradient.slice(kPrefix, gradient.size(0)), weight);
  const Tensor cells = Tensor::zeros({c.mels, frames});
  const float* from = patches.data<float>();
  for (std::int64_t f = 0; f < grid.grid_f; ++f) {
    for (std::int64_t t = 0; t < grid.grid_t; ++t) {
      for (std::int64_t i = 0; i < c.patch_f; ++i) {
        float* to = cells.data<float>() + (f * c.stride_f + i) * frames + t * c.stride_t;
        for (std::int64_t j = 0; j < c.patch_t; ++j) to[j] += *from++;
      }
    }
  }
  return cells;
}

// Points of the integral that are worked out in one batch.
std::int64_t points_at_once(const nn::PasstConfig& c, std::int64_t tokens) {
  // A block keeps 8 widths and 2 MLP widths of values a token.
  const double bytes =
      4.0 * static_cast<double>(c.depth) * static_cast<double>(tokens * (8 * c.width + 2 * c.mlp));
  return std::clamp(static_cast<std::int64_t>(kMostActivationBytes / bytes), std::int64_t{1},
                    kMostPoints);
}

// The mean gradient in the tokens along the straight line from `from` to `to`, by the midpoint
// rule. Tokens depend linearly on the spectrogram, so a line there is a line here.
Tensor mean_gradient(const Output& output, const Tensor& from, const Tensor& to, std::int64_t steps,
                     std::int64_t at_once) {
  const Tensor start = on_host(from), end = on_host(to);
  const std::int64_t values = start.numel();
  const Tensor mean = Tensor::zeros({start.size(1), start.size(2)});
  for (std::int64_t done = 0; done < steps; done += at_once) {
    const std::int64_t count = std::min(at_once, steps - done);
    const Tensor points = Tensor::empty(start.shape().with(0, count));
    for (std::int64_t b = 0; b < count; ++b) {
      const auto share =
          static_cast<float>((static_cast<double>(done + b) + 0.5) / static_cast<double>(steps));
      float* point = points.data<float>() + b * values;
      for (std::int64_t i = 0; i < values; ++i) {
        point[i] = start.data<float>()[i] + share * (end.data<float>()[i] - start.data<float>()[i]);
      }
    }
    const std::vector<float> weights(static_cast<std::size_t>(count),
                                     1 / static_cast<float>(steps));
    const Tensor part = output.gradient(points.to(from.device()), weights);
    for (std::int64_t i = 0; i < values; ++i) mean.data<float>()[i] += part.data<float>()[i];
  }
  return mean;
}

void times_distance_from(const Tensor& map, const Tensor& mel, float level) {
  const Tensor x = on_host(mel);
  for (std::int64_t i = 0; i < map.numel(); ++i) {
    map.data<float>()[i] *= x.data<float>()[i] - level;
  }
}

double absolute_sum(const Tensor& map) {
  const auto values = map.span<float>();
  return std::accumulate(values.begin(), values.end(), 0.0,
                         [](double sum, float x) { return sum + std::abs(x); });
}

// The mean of the prefix rows (2, N) over the patches, as a grid.
Tensor over_patches(const Tensor& rows, const ops::PatchGrid& grid) {
  const std::int64_t n = rows.size(1);
  const Tensor out = Tensor::empty({grid.grid_f, grid.grid_t});
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    const float* row = rows.data<float>() + kPrefix + i;
    out.data<float>()[i] = (row[0] + row[n]) / 2;
  }
  return out;
}

}  // namespace

const std::vector<std::string>& explain_method_names() {
  static const std::vector<std::string> names = {"rollout", "attention", "gradient",
                                                 "gradient-input", "integrated"};
  return names;
}

ExplainMethod explain_method_of(const std::string& name) {
  const std::vector<std::string>& names = explain_method_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    fail(ExitCode::kUsage, "--method: '", name, "'", suggestion(name, names));
  }
  return static_cast<ExplainMethod>(found - names.begin());
}

double Explanation::gap() const {
  const double change = value - silence_value;
  const double scale = std::max(std::abs(change), absolute_sum(map) / 100);
  return scale > 0 ? std::abs(sum - change) / scale : 0;
}

void check_explain_options(const ExplainOptions& options, const nn::PasstConfig& config) {
  const std::string& name = explain_method_names()[static_cast<std::size_t>(options.method)];
  const auto check = [&](const char* option, std::int64_t value, std::int64_t count, bool has) {
    if (value == -1) return;
    if (!has) fail(ExitCode::kUsage, option, ": method ", name, " has no such choice");
    if (value < 0 || value >= count) {
      fail(ExitCode::kUsage, option, ": ", value, ", the model has 0 to ", count - 1);
    }
  };
  const bool one_layer = options.method == ExplainMethod::kAttention;
  check("--layer", options.layer, config.depth, one_layer);
  check("--head", options.head, config.heads, one_layer);
  check("--output", options.output, config.outputs, !is_attention(options.method));
  if (options.steps < 1) fail(ExitCode::kUsage, "--steps: ", options.steps, ", want at least 1");
}

float silence_level(const audio::MelConfig& config) {
  return (std::log(config.log_offset) - config.mean) / config.std;
}

Explanation explain(nn::Passt& model, const ModelCard& card, const Tensor& mel,
                    const ExplainOptions& options) {
  const nn::PasstConfig& c = model.config();
  check_explain_options(options, c);
  ONPA_CHECK(mel.defined() && mel.shape().rank() == 3 && mel.size(0) == 1 && mel.size(1) == c.mels,
             "explain: mel ", mel.shape(), ", want (1, ", c.mels, ", T)");
  const Frozen frozen(model);
  const ops::PatchGrid grid = model.whole_grid(mel.size(2));
  const Tensor tokens = model.tokens(mel, grid);
  Tensor logits;
  {
    const NoGrad no_grad;
    logits = on_host(model.forward_tokens(tokens).logits);
  }
  Explanation out;
  out.output = options.output >= 0 ? options.output : largest(logits);
  out.value = in_target_units(card, logits.data<float>()[out.output]);
  if (options.method == ExplainMethod::kRollout) {
    out.map = over_patches(nn::attention_rollout(model, tokens), grid);
    return out;
  }
  if (options.method == ExplainMethod::kAttention) {
    const std::int64_t layer = options.layer >= 0 ? options.layer : c.depth - 1;
    out.map = over_patches(nn::prefix_attention(model, tokens, layer, options.head), grid);
    return out;
  }
  const Output output(model, card, out.output);
  const float level = silence_level(card.mel);
  Tensor gradient;
  if (options.method == ExplainMethod::kIntegrated) {
    const Tensor silence =
        model.tokens(Tensor::full(mel.shape(), static_cast<double>(level)).to(mel.device()), grid);
    {
      const NoGrad no_grad;
      const Tensor of_silence = on_host(model.forward_tokens(silence).logits);
      out.silence_value = in_target_units(card, of_silence.data<float>()[out.output]);
    }
    gradient =
        mean_gradient(output, silence, tokens, options.steps, points_at_once(c, tokens.size(1)));
  } else {
    gradient = output.gradient(tokens, {1});
  }
  out.map = carry_to_cells(model, gradient, grid, mel.size(2));
  if (options.method != ExplainMethod::kGradient) times_distance_from(out.map, mel, level);
  const auto values = out.map.span<float>();
  out.sum = std::accumulate(values.begin(), values.end(), 0.0);
  return out;
}

Tensor spread_over_cells(const Tensor& patches, const nn::PasstConfig& c, std::int64_t frames) {
  const Tensor sum = Tensor::zeros({c.mels, frames});
  std::vector<float> covered(static_cast<std::size_t>(sum.numel()));
  for (std::int64_t f = 0; f < patches.size(0); ++f) {
    for (std::int64_t t = 0; t < patches.size(1); ++t) {
      const float value = patches.data<float>()[f * patches.size(1) + t];
      for (std::int64_t i = 0; i < c.patch_f; ++i) {
        const std::int64_t at = (f * c.stride_f + i) * frames + t * c.stride_t;
        for (std::int64_t j = at; j < at + c.patch_t; ++j) {
          sum.data<float>()[j] += value;
          covered[static_cast<std::size_t>(j)] += 1;
        }
      }
    }
  }
  for (std::int64_t i = 0; i < sum.numel(); ++i) {
    sum.data<float>()[i] /= std::max(1.0f, covered[static_cast<std::size_t>(i)]);
  }
  return sum;
}

}  // namespace onpa::apps
