#include "nn/optim.h"

#include <algorithm>
#include <cmath>

#include "kernels/optim.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::nn {
namespace {

template <class Value>
void require(bool ok, const char* name, Value value, const char* want) {
  if (!ok) fail(ExitCode::kConfig, "optimizer: ", name, " is ", value, ", want ", want);
}

void check_config(const OptimizerConfig& c) {
  if (c.kind != "adamw" && c.kind != "sgd") {
    fail(ExitCode::kConfig, "optimizer: unknown kind \"", c.kind, "\", want adamw or sgd");
  }
  require(c.beta1 >= 0 && c.beta1 < 1, "beta1", c.beta1, "[0, 1)");
  require(c.beta2 >= 0 && c.beta2 < 1, "beta2", c.beta2, "[0, 1)");
  require(std::isfinite(c.eps) && c.eps > 0, "eps", c.eps, "a positive number");
  require(std::isfinite(c.weight_decay) && c.weight_decay >= 0, "weight_decay", c.weight_decay,
          "0 or more");
  require(c.momentum >= 0 && c.momentum < 1, "momentum", c.momentum, "[0, 1)");
  require(std::isfinite(c.clip_norm) && c.clip_norm >= 0, "clip_norm", c.clip_norm, "0 or more");
}

const char* update_name(const OptimizerConfig& c) {
  return c.kind == "adamw" ? "adamw" : "sgd";
}

OpWork norm_work(const FlatParams& params) {
  return {2 * ops::elements(params.grad()), ops::bytes_of(params.grad())};
}

// Parameters and `buffers` of moments are read and written; of a bf16 model the weights, too.
OpWork update_work(const OptimizerConfig& c, const FlatParams& params, std::size_t buffers) {
  const double sgd_flops = 5 + (c.momentum > 0 ? 2 : 0) + (c.momentum > 0 && c.nesterov ? 2 : 0);
  const bool rounded = params.compute().dtype() == DType::kBF16;
  return {(c.kind == "adamw" ? 15 : sgd_flops) * ops::elements(params.data()),
          2 * static_cast<double>(1 + buffers) * ops::bytes_of(params.data()) +
              ops::bytes_of(params.grad()) + (rounded ? ops::bytes_of(params.compute()) : 0)};
}

OpWork average_work(const Tensor& average) {
  return {3 * ops::elements(average), 3 * ops::bytes_of(average)};
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const FlatParams& params)
    : config_(config), params_(params) {
  check_config(config);
  const auto add_state = [&](const char* name) {
    const Tensor& data = params.data();
    state_.emplace_back(name, Tensor::zeros(data.shape(), DType::kF32, data.device()));
  };
  if (config.kind == "adamw") {
    add_state("m");
    add_state("v");
  } else if (config.momentum > 0) {
    add_state("momentum");
  }
}

double Optimizer::step(float lr, float grad_scale) {
  ONPA_CHECK(std::isfinite(lr) && lr >= 0, "optimizer: learning rate ", lr, ", want 0 or more");
  ONPA_CHECK(params_.data().device() == DeviceKind::kCpu, "optimizer: step() is for the CPU");
  double norm = 0;
  on_device(params_.data().device(), [&](auto dev) {
    const float* grad = params_.grad().data<float>();
    float* param = params_.data().data<float>();
    const std::int64_t n = params_.numel();
    double squares = 0;
    {
      const OpScope scope("gradient_norm", [&] { return norm_work(params_); });
      kernels::sum_of_squares(dev, {.x = grad, .out = &squares, .n = n});
    }
    norm = std::sqrt(squares) * std::abs(static_cast<double>(grad_scale));
    if (!std::isfinite(norm)) return;

    double scale = grad_scale;
    // 1e-6 and the upper limit of 1 as torch.nn.utils.clip_grad_norm_ has them.
    if (config_.clip_norm > 0) scale *= std::min(1.0, config_.clip_norm / (norm + 1e-6));
    ++step_count_;
    const OpScope scope(update_name(config_),
                        [&] { return update_work(config_, params_, state_.size()); });
    if (config_.kind == "adamw") {
      kernels::adamw(dev, {.param = param,
                           .grad = grad,
                           .m = state_[0].second.data<float>(),
                           .v = state_[1].second.data<float>(),
                           .n = n,
                           .beta1 = config_.beta1,
                           .beta2 = config_.beta2,
                           .lr = lr,
                           .eps = config_.eps,
                           .weight_decay = config_.weight_decay,
                           .grad_scale = static_cast<float>(scale),
                           .step = step_count_});
    } else {
      kernels::sgd(dev,
                   {.param = param,
                    .grad = grad,
                    .momentum_buffer = state_.empty() ? nullptr : state_[0].second.data<float>(),
                    .n = n,
                    .lr = lr,
                    .momentum = config_.momentum,
                    .weight_decay = config_.weight_decay,
                    .grad_scale = static_cast<float>(scale),
                    .nesterov = config_.nesterov});
    }
  });
  return norm;
}

void Optimizer::queue_step(const Tensor& state, const Tensor& squares, float grad_scale) {
  const DeviceKind device = params_.data().device();
  ONPA_CHECK(device == DeviceKind::kCuda, "optimizer: queue_step() is for the GPU");
  const bool in_bf16 = params_.grad().dtype() == DType::kBF16;
  const auto* grad = in_bf16 ? nullptr : params_.grad().data<float>();
  const auto* grad_bf16 = in_bf16 ? params_.grad().data<bf16>() : nullptr;
  kernels::SumOfSquares sum = {
      .x = grad, .out = squares.data<double>(), .n = params_.numel(), .x_bf16 = grad_bf16};
  const Tensor scratch = workspace(
      device, [&](auto dev) { return kernels::sum_of_squares_workspace_bytes(dev, sum); });
  const auto* step_state = reinterpret_cast<const kernels::StepState*>(state.bytes());
  // With `state` given its values are used, those of the arguments are not.
  on_device(device, [&](auto dev) {
    sum.workspace = scratch.defined() ? scratch.bytes() : nullptr;
    {
      const OpScope scope("gradient_norm", [&] { return norm_work(params_); });
      kernels::sum_of_squares(dev, sum);
    }
    const OpScope scope(update_name(config_),
                        [&] { return update_work(config_, params_, state_.size()); });
    bf16* param_bf16 = in_bf16 ? params_.compute().data<bf16>() : nullptr;
    if (config_.kind == "adamw") {
      kernels::adamw(dev, {.param = params_.data().data<float>(),
                           .grad = grad,
                           .m = state_[0].second.data<float>(),
                           .v = state_[1].second.data<float>(),
                           .n = params_.numel(),
                           .beta1 = config_.beta1,
                           .beta2 = config_.beta2,
                           .lr = 0,
                           .eps = config_.eps,
                           .weight_decay = config_.weight_decay,
                           .grad_scale = grad_scale,
                           .step = 1,
                           .grad_sum_of_squares = sum.out,
                           .state = step_state,
                           .grad_bf16 = grad_bf16,
                           .param_bf16 = param_bf16});
    } else {
      kernels::sgd(dev,
                   {.param = params_.data().data<float>(),
                    .grad = grad,
                    .momentum_buffer = state_.empty() ? nullptr : state_[0].second.data<float>(),
                    .n = params_.numel(),
                    .lr = 0,
                    .momentum = config_.momentum,
                    .weight_decay = config_.weight_decay,
                    .grad_scale = grad_scale,
                    .nesterov = config_.nesterov,
                    .grad_sum_of_squares = sum.out,
                    .state = step_state,
                    .grad_bf16 = grad_bf16,
                    .param_bf16 = param_bf16});
    }
  });
}

void Optimizer::move_to(DeviceKind device) {
  for (auto& [name, buffer] : state_) buffer = buffer.to(device);
}

AveragedParams::AveragedParams(FlatParams& params)
    : params_(params), average_(params.data().clone()) {}

void AveragedParams::update_ema(double decay) {
  ONPA_CHECK(decay >= 0 && decay <= 1, "ema: decay ", decay, ", want [0, 1]");
  const OpScope scope("average_weights", [&] { return average_work(average_); });
  on_device(average_.device(), [&](auto dev) {
    kernels::average_weights(dev, {.average = average_.data<float>(),
                                   .param = params_.data().data<float>(),
                                   .weight = static_cast<float>(1.0 - decay),
                                   .n = params_.numel()});
  });
  ++count_;
}

void AveragedParams::update_swa() {
  // The first average is its only term, bit for bit: x + (y - x) need not be y.
  if (count_ == 0) average_.copy_from(params_.data());
  const OpScope scope("average_weights", [&] { return average_work(average_); });
  on_device(average_.device(), [&](auto dev) {
    kernels::average_weights(dev,
                             {.average = average_.data<float>(),
                              .param = params_.data().data<float>(),
                              .weight = static_cast<float>(1.0 / static_cast<double>(count_ + 1)),
                              .n = params_.numel()});
  });
  ++count_;
}

void AveragedParams::swap() {
  const Tensor live = params_.data().clone();
  params_.data().copy_from(average_);
  average_.copy_from(live);
  params_.refresh_compute();
}

}  // namespace onpa::nn
