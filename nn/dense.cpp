#include "nn/dense.h"

#include <cmath>

#include "kernels/philox.h"
#include "nn/init.h"
#include "tensor/ops/activation.h"
#include "tensor/ops/linear.h"

namespace onpa::nn {

void DenseConfig::validate() const {
  if (inputs < 1) fail(ExitCode::kConfig, "dense: inputs is ", inputs, ", want at least 1");
  if (outputs < 1) fail(ExitCode::kConfig, "dense: outputs is ", outputs, ", want at least 1");
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    if (hidden[i] < 1) {
      fail(ExitCode::kConfig, "dense: hidden[", i, "] is ", hidden[i], ", want at least 1");
    }
  }
  if (!(dropout >= 0 && dropout < 1)) {
    fail(ExitCode::kConfig, "dense: dropout is ", dropout, ", want at least 0 and under 1");
  }
}

Dense::Dense(const DenseConfig& config) : config_(config) {
  config_.validate();
  std::int64_t fan_in = config_.inputs;
  for (std::size_t i = 0; i <= config_.hidden.size(); ++i) {
    const std::int64_t fan_out = i < config_.hidden.size() ? config_.hidden[i] : config_.outputs;
    const std::string prefix = "layers." + std::to_string(i);
    weights_.push_back(&add_parameter(prefix + ".weight", {fan_out, fan_in}));
    biases_.push_back(&add_parameter(prefix + ".bias", {fan_out}));
    fan_in = fan_out;
  }
}

void Dense::initialize(std::uint64_t seed) {
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const double bound = 1 / std::sqrt(static_cast<double>(weights_[i]->size(1)));
    fill_uniform(*weights_[i], bound, seed, 2 * i);
    fill_uniform(*biases_[i], bound, seed, 2 * i + 1);
  }
}

Tensor Dense::forward(const Tensor& x, std::uint64_t seed, std::uint64_t step,
                      std::int64_t first_row) const {
  ONPA_CHECK(x.defined() && x.shape().rank() == 2 && x.size(1) == config_.inputs, "dense: x ",
             x.shape(), ", want (B, ", config_.inputs, ")");
  Tensor y = x;
  for (std::size_t i = 0; i + 1 < weights_.size(); ++i) {
    y = ops::linear(y, *weights_[i], *biases_[i], config_.activation);
    if (training() && config_.dropout > 0) {
      const auto stream = kStreamDropout + (static_cast<std::uint32_t>(i) << 16);
      y = ops::dropout(y, config_.dropout,
                       {.seed = seed,
                        .stream = stream,
                        .step = step,
                        .sample = static_cast<std::uint64_t>(first_row)},
                       step_state());
    }
  }
  return ops::linear(y, *weights_.back(), *biases_.back());
}

}  // namespace onpa::nn
