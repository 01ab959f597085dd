#include "nn/optim.h"

#include <algorithm>
#include <cmath>
#include <span>

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

OpWork average_work(const Tensor& average) {
  return {3 * ops::elements(average), 3 * ops::bytes_of(average)};
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const FlatParams& params,
                     const OptimizerShard& shard)
    : config_(config), params_(params), shard_(shard) {
  check_config(config);
  ONPA_CHECK(shard.count >= 1 && shard.index >= 0 && shard.index < shard.count, "optimizer: shard ",
             shard.index, " of ", shard.count);
  const auto add_state = [&](const char* name) {
    const Shape shape{shard_.state_numel(params.learning_numel())};
    state_.emplace_back(name, Tensor::zeros(shape, DType::kF32, params.data().device()));
  };
  if (config.kind == "adamw") {
    add_state("m");
    add_state("v");
  } else if (config.momentum > 0) {
    add_state("momentum");
  }
  find_ranges();
}

// The parameters of this part, their gradients and moments are read, all but the gradients written;
// of a bf16 model the rounded weights, too.
OpWork Optimizer::update_work() const {
  const OptimizerConfig& c = config_;
  const double sgd_flops = 5 + (c.momentum > 0 ? 2 : 0) + (c.momentum > 0 && c.nesterov ? 2 : 0);
  double n = 0;
  for (const Range& range : ranges_) n += static_cast<double>(range.end - range.begin);
  const double width = static_cast<double>(size_of(params_.grad().dtype()));
  const double rounded = params_.compute().dtype() == DType::kBF16 ? width : 0;
  return {(c.kind == "adamw" ? 15 : sgd_flops) * n,
          n * (8 * static_cast<double>(1 + state_.size()) + width + rounded)};
}

void Optimizer::find_ranges() {
  const std::int64_t n = params_.learning_numel(), part = shard_.part_numel(n);
  const std::int64_t begin = shard_.index * part, rest = shard_.count * part;
  if (part > 0) add_ranges(begin, begin + part, 0);
  if (rest < n) add_ranges(rest, n, part);
}

// Parameters [begin, end), whose moments begin at `state`; neighbours with one rate are one range.
void Optimizer::add_ranges(std::int64_t begin, std::int64_t end, std::int64_t state) {
  const std::span<const FlatSlot> slots = params_.learning_slots();
  const std::size_t first = ranges_.size();
  for (std::size_t s = 0; s < slots.size(); ++s) {
    const std::int64_t slot_end =
        s + 1 < slots.size() ? slots[s + 1].offset : params_.learning_numel();
    const std::int64_t from = std::max(begin, slots[s].offset), to = std::min(end, slot_end);
    if (from >= to) continue;
    const double scale = config_.rate_scale ? config_.rate_scale(slots[s].name) : 1;
    require(std::isfinite(scale) && scale >= 0, "rate_scale", scale, "0 or more");
    const Range range = {from, to, state + from - begin, static_cast<float>(scale)};
    const bool joins =
        ranges_.size() > first && ranges_.back().end == from && ranges_.back().scale == range.scale;
    if (joins) {
      ranges_.back().end = to;
    } else {
      ranges_.push_back(range);
    }
  }
}

float* Optimizer::moment(std::size_t buffer, const Range& range) const {
  return buffer < state_.size() ? state_[buffer].second.data<float>() + range.state : nullptr;
}

double Optimizer::step(float lr, float grad_scale) {
  ONPA_CHECK(std::isfinite(lr) && lr >= 0, "optimizer: learning rate ", lr, ", want 0 or more");
  ONPA_CHECK(params_.data().device() == DeviceKind::kCpu, "optimizer: step() is for the CPU");
  double squares = 0;
  {
    const OpScope scope("gradient_norm", [&] { return norm_work(params_); });
    kernels::sum_of_squares(
        kernels::Cpu{},
        {.x = params_.grad().data<float>(), .out = &squares, .n = params_.learning_numel()});
  }
  const double norm = std::sqrt(squares) * std::abs(static_cast<double>(grad_scale));
  if (!std::isfinite(norm)) return norm;

  double scale = grad_scale;
  // 1e-6 and the upper limit of 1 as torch.nn.utils.clip_grad_norm_ has them.
  if (config_.clip_norm > 0) scale *= std::min(1.0, config_.clip_norm / (norm + 1e-6));
  ++step_count_;
  const OpScope scope(update_name(config_), [&] { return update_work(); });
  for (const Range& range : ranges_) update(range, lr, scale);
  return norm;
}

void Optimizer::update(const Range& range, float lr, double grad_scale) {
  const float* grad = params_.grad().data<float>() + range.begin;
  float* param = params_.data().data<float>() + range.begin;
  const std::int64_t n = range.end - range.begin;
  if (config_.kind == "adamw") {
    kernels::adamw(kernels::Cpu{}, {.param = param,
                                    .grad = grad,
                                    .m = moment(0, range),
                                    .v = moment(1, range),
                                    .n = n,
                                    .beta1 = config_.beta1,
                                    .beta2 = config_.beta2,
                                    .lr = lr,
                                    .eps = config_.eps,
                                    .weight_decay = config_.weight_decay,
                                    .grad_scale = static_cast<float>(grad_scale),
                                    .step = step_count_,
                                    .lr_scale = range.scale});
  } else {
    kernels::sgd(kernels::Cpu{}, {.param = param,
                                  .grad = grad,
                                  .momentum_buffer = moment(0, range),
                                  .n = n,
                                  .lr = lr,
                                  .momentum = config_.momentum,
                                  .weight_decay = config_.weight_decay,
                                  .grad_scale = static_cast<float>(grad_scale),
                                  .nesterov = config_.nesterov,
                                  .lr_scale = range.scale});
  }
}

void Optimizer::queue_step(const Tensor& state, const Tensor& squares, float grad_scale) {
  const DeviceKind device = params_.data().device();
  ONPA_CHECK(device == DeviceKind::kCuda, "optimizer: queue_step() is for the GPU");
  const bool in_bf16 = params_.grad().dtype() == DType::kBF16;
  kernels::SumOfSquares sum = {.x = in_bf16 ? nullptr : params_.grad().data<float>(),
                               .out = squares.data<double>(),
                               .n = params_.learning_numel(),
                               .x_bf16 = in_bf16 ? params_.grad().data<bf16>() : nullptr};
  const Tensor scratch = workspace(
      device, [&](auto dev) { return kernels::sum_of_squares_workspace_bytes(dev, sum); });
  on_device(device, [&](auto dev) {
    sum.workspace = scratch.defined() ? scratch.bytes() : nullptr;
    const OpScope scope("gradient_norm", [&] { return norm_work(params_); });
    kernels::sum_of_squares(dev, sum);
  });
  const OpScope scope(update_name(config_), [&] { return update_work(); });
  for (const Range& range : ranges_) queue_update(range, state, squares, grad_scale);
}

// With `state` given its values are used, those of the arguments are not.
void Optimizer::queue_update(const Range& range, const Tensor& state, const Tensor& squares,
                             float grad_scale) {
  const bool in_bf16 = params_.grad().dtype() == DType::kBF16;
  const auto* grad = in_bf16 ? nullptr : params_.grad().data<float>() + range.begin;
  const auto* grad_bf16 = in_bf16 ? params_.grad().data<bf16>() + range.begin : nullptr;
  bf16* param_bf16 = in_bf16 ? params_.compute().data<bf16>() + range.begin : nullptr;
  const auto* step_state = reinterpret_cast<const kernels::StepState*>(state.bytes());
  on_device(params_.data().device(), [&](auto dev) {
    if (config_.kind == "adamw") {
      kernels::adamw(dev, {.param = params_.data().data<float>() + range.begin,
                           .grad = grad,
                           .m = moment(0, range),
                           .v = moment(1, range),
                           .n = range.end - range.begin,
                           .beta1 = config_.beta1,
                           .beta2 = config_.beta2,
                           .lr = 0,
                           .eps = config_.eps,
                           .weight_decay = config_.weight_decay,
                           .grad_scale = grad_scale,
                           .step = 1,
                           .grad_sum_of_squares = squares.data<double>(),
                           .state = step_state,
                           .grad_bf16 = grad_bf16,
                           .param_bf16 = param_bf16,
                           .lr_scale = range.scale});
    } else {
      kernels::sgd(dev, {.param = params_.data().data<float>() + range.begin,
                         .grad = grad,
                         .momentum_buffer = moment(0, range),
                         .n = range.end - range.begin,
                         .lr = 0,
                         .momentum = config_.momentum,
                         .weight_decay = config_.weight_decay,
                         .grad_scale = grad_scale,
                         .nesterov = config_.nesterov,
                         .grad_sum_of_squares = squares.data<double>(),
                         .state = step_state,
                         .grad_bf16 = grad_bf16,
                         .param_bf16 = param_bf16,
                         .lr_scale = range.scale});
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
