#include "nn/dense_fused.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "kernels/error.h"
#include "tensor/device.h"
#include "tensor/dispatch.h"
#include "tensor/op_scope.h"

namespace onpa::nn {
namespace {

using kernels::DenseState;
using kernels::LossKind;

// Their losses come back in one piece.
constexpr int kMaxStepsPerGraph = Downloader::kMaxBytes / sizeof(float);

Tensor states_on_gpu(int count) {
  constexpr auto kWords = static_cast<std::int64_t>(sizeof(DenseState) / sizeof(std::int32_t));
  return Tensor::empty({count, kWords}, DType::kI32, DeviceKind::kCuda);
}
DenseState* states(const Tensor& tensor) {
  return reinterpret_cast<DenseState*>(tensor.bytes());
}

const FlatSlot& slot_of(const FlatParams& params, const std::string& name, const Shape& shape) {
  for (const FlatSlot& slot : params.slots()) {
    if (slot.name != name) continue;
    ONPA_CHECK(slot.shape == shape, "dense: ", name, " is ", slot.shape, ", want ", shape);
    return slot;
  }
  fail(ExitCode::kInternal, "dense: no parameter ", name);
}

void set_layers(const DenseConfig& model, const FlatParams& params, kernels::DenseStep& step) {
  std::int64_t inputs = model.inputs;
  step.layers = static_cast<int>(model.hidden.size()) + 1;
  for (int i = 0; i < step.layers; ++i) {
    const bool hidden = i + 1 < step.layers;
    const std::int64_t outputs = hidden ? model.hidden[static_cast<std::size_t>(i)] : model.outputs;
    const std::string prefix = "layers." + std::to_string(i);
    step.layer[i] = {inputs, outputs, slot_of(params, prefix + ".weight", {outputs, inputs}).offset,
                     slot_of(params, prefix + ".bias", {outputs}).offset};
    inputs = outputs;
  }
}

kernels::DenseStep step_of(const DenseConfig& model, const DenseFusedConfig& config,
                           const FlatParams& params, std::int64_t rows) {
  if (const std::string why = DenseFused::problem(model, config); !why.empty()) {
    fail(ExitCode::kConfig, "dense: ", why);
  }
  ONPA_CHECK(params.compute().dtype() == DType::kF32, "dense: fused steps want f32 parameters");
  kernels::DenseStep step = {};
  set_layers(model, params, step);
  step.rows = rows;
  step.batch = config.batch_size;
  step.activation = model.activation;
  step.dropout = model.dropout;
  step.loss_kind = config.loss;
  step.delta = config.huber_delta;
  step.seed = config.seed;
  step.shuffle = config.shuffle;
  step.beta1 = config.optimizer.beta1;
  step.beta2 = config.optimizer.beta2;
  step.eps = config.optimizer.eps;
  step.weight_decay = config.optimizer.weight_decay;
  step.clip_norm = config.optimizer.clip_norm;
  return step;
}

// Of a full batch: its products (no gradient of x is needed), its rows, and AdamW on all
// parameters.
OpWork step_work(const kernels::DenseStep& step) {
  const double batch = static_cast<double>(std::min(step.batch, step.rows));
  double flops = 0, parameters = 0;
  for (int i = 0; i < step.layers; ++i) {
    const double inputs = static_cast<double>(step.layer[i].inputs);
    const double outputs = static_cast<double>(step.layer[i].outputs);
    flops += batch * inputs * outputs * (i == 0 ? 4 : 6);
    parameters += (inputs + 1) * outputs;
  }
  const double row = static_cast<double>(step.layer[0].inputs) + 1;
  return {flops + 15 * parameters, sizeof(float) * (batch * row + 6 * parameters)};
}

Tensor moment(const Optimizer& optimizer, const std::string& name) {
  for (const auto& [key, tensor] : optimizer.state()) {
    if (key == name) return tensor;
  }
  fail(ExitCode::kInternal, "dense: the optimizer has no ", name);
}

}  // namespace

std::string DenseFused::problem(const DenseConfig& model, const DenseFusedConfig& config) {
  std::ostringstream why;
  const auto widest = std::max_element(model.hidden.begin(), model.hidden.end());
  if (model.hidden.size() + 1 > kernels::kMaxDenseLayers) {
    why << "fused steps have at most " << kernels::kMaxDenseLayers << " layers, not "
        << model.hidden.size() + 1;
  } else if (model.inputs > kernels::kMaxDenseWidth) {
    why << "fused steps have at most " << kernels::kMaxDenseWidth << " inputs, not "
        << model.inputs;
  } else if (widest != model.hidden.end() && *widest > kernels::kMaxDenseWidth) {
    why << "fused steps have layers up to " << kernels::kMaxDenseWidth << " wide, not " << *widest;
  } else if (model.outputs != 1) {
    why << "fused steps have one output, not " << model.outputs;
  } else if (config.loss != LossKind::kMse && config.loss != LossKind::kL1 &&
             config.loss != LossKind::kHuber) {
    why << "fused steps have a loss of regression";
  } else if (config.optimizer.rate_scale) {
    why << "fused steps have one learning rate";
  } else if (config.optimizer.kind != "adamw") {
    why << "fused steps have the optimizer adamw, not " << config.optimizer.kind;
  }
  return why.str();
}

DenseFused::DenseFused(const DenseConfig& model, const DenseFusedConfig& config,
                       const FlatParams& params, Optimizer& optimizer, const Tensor& x,
                       const Tensor& y)
    : step_(step_of(model, config, params, x.size(0))),
      steps_per_graph_(config.steps_per_graph),
      optimizer_(optimizer),
      device_(params.data().device()),
      x_(x.to(device_)),
      y_(y.to(device_)),
      param_(params.data()),
      m_(moment(optimizer, "m")),
      v_(moment(optimizer, "v")) {
  ONPA_CHECK(steps_per_graph_ >= 1 && steps_per_graph_ <= kMaxStepsPerGraph,
             "dense: ", steps_per_graph_, " steps a graph, want 1 to ", kMaxStepsPerGraph);
  ONPA_CHECK(x.shape() == Shape({step_.rows, model.inputs}) && y.shape() == Shape({step_.rows, 1}),
             "dense: x ", x.shape(), " and y ", y.shape(), ", want (rows, ", model.inputs,
             ") and (rows, 1)");
  ONPA_CHECK(m_.device() == device_, "dense: optimizer and parameters are on different devices");
  if (device_ == DeviceKind::kCuda) {
    uploader_.emplace();
    downloader_.emplace();
    state_ = states_on_gpu(1);
    later_states_ = states_on_gpu(steps_per_graph_);
    rates_ = Tensor::empty({steps_per_graph_}, DType::kF32, DeviceKind::kCuda);
    losses_ = Tensor::empty({steps_per_graph_}, DType::kF32, DeviceKind::kCuda);
  }
  step_.x = x_.data<float>();
  step_.y = y_.data<float>();
  step_.param = param_.data<float>();
  step_.m = m_.data<float>();
  step_.v = v_.data<float>();
  workspace_ = workspace(
      device_, [this](auto dev) { return kernels::dense_step_workspace_bytes(dev, step_); });
  step_.workspace = workspace_.bytes();
  seek(0, 0, 0);
}

void DenseFused::seek(std::uint64_t epoch, std::int64_t position, std::uint64_t step) {
  ONPA_CHECK(pending() == 0, "dense: seek() with steps pending");
  ONPA_CHECK(position >= 0 && position < step_.rows, "dense: position ", position, " of ",
             step_.rows, " rows");
  now_ = {.step = step,
          .optimizer_step = static_cast<std::uint64_t>(optimizer_.step_count()) + 1,
          .epoch = epoch,
          .position = static_cast<std::uint64_t>(position)};
  if (device_ == DeviceKind::kCuda) uploader_->upload(state_, &now_, sizeof now_);
  on_device(device_, [this](auto dev) { kernels::dense_pack(dev, step_); });
}

// Each step reads the state that the one before it wrote; the last one's becomes the first's.
void DenseFused::run_steps(int count) const {
  on_device(DeviceKind::kCuda, [&](auto dev) {
    for (int i = 0; i < count; ++i) {
      kernels::DenseStep step = step_;
      step.lr = rates_.data<float>() + i;
      step.loss = losses_.data<float>() + i;
      step.state = i == 0 ? states(state_) : states(later_states_) + i - 1;
      step.next_state = states(later_states_) + i;
      const OpScope scope("dense_step", [&] { return step_work(step); });
      kernels::dense_step(dev, step);
    }
  });
  copy_bytes(state_.bytes(), DeviceKind::kCuda, states(later_states_) + count - 1,
             DeviceKind::kCuda, sizeof(DenseState));
}

DenseFused::Result DenseFused::take_on_cpu() {
  const std::vector<float> rates = std::move(waiting_.front());
  waiting_.pop_front();
  Result result;
  for (const float& rate : rates) {
    DenseState next;
    kernels::DenseStep step = step_;
    step.lr = &rate;
    step.loss = &result.losses.emplace_back();
    step.grad_norm = &result.grad_norms.emplace_back();
    step.state = &now_;
    step.next_state = &next;
    const OpScope scope("dense_step", [&] { return step_work(step); });
    kernels::dense_step(kernels::Cpu{}, step);
    now_ = next;
  }
  result.epoch = now_.epoch;
  result.position = static_cast<std::int64_t>(now_.position);
  optimizer_.set_step_count(static_cast<std::int64_t>(now_.optimizer_step) - 1);
  return result;
}

void DenseFused::queue(std::span<const float> rates) {
  const int count = static_cast<int>(rates.size());
  ONPA_CHECK(count >= 1 && count <= steps_per_graph_, "dense: ", count,
             " learning rates, want 1 to ", steps_per_graph_);
  if (device_ == DeviceKind::kCpu) {
    waiting_.emplace_back(rates.begin(), rates.end());
    return;
  }
  uploader_->upload(rates_, rates.data(), rates.size_bytes());
  graphs_.try_emplace(count, [this, count] { run_steps(count); }).first->second.run();
  downloader_->fetch(losses_);
  downloader_->fetch(state_);
  queued_.push_back(count);
}

DenseFused::Result DenseFused::take() {
  ONPA_CHECK(pending() > 0, "dense: take() without queue()");
  if (device_ == DeviceKind::kCpu) return take_on_cpu();
  std::vector<float> losses(static_cast<std::size_t>(steps_per_graph_));
  downloader_->take(losses.data(), losses.size() * sizeof(float));
  losses.resize(static_cast<std::size_t>(queued_.front()));
  queued_.pop_front();
  DenseState state;
  downloader_->take(&state, sizeof state);
  optimizer_.set_step_count(static_cast<std::int64_t>(state.optimizer_step) - 1);
  return {.losses = std::move(losses),
          .grad_norms = {},
          .epoch = state.epoch,
          .position = static_cast<std::int64_t>(state.position)};
}

}  // namespace onpa::nn
