#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/optim.h"

namespace onpa::kernels {
namespace {

// Activations and gradients of one step; row-major, (count, width).
struct Layer {
  std::vector<float> input, before, slope, weight_grad, bias_grad;
};

RngKey dropout_key(const DenseStep& a, int layer) {
  return {.seed = a.seed,
          .stream = kStreamDropout + (static_cast<std::uint32_t>(layer) << 16),
          .step = a.state->step};
}

std::vector<float> gather(const DenseStep& a, std::int64_t count, Layer& first) {
  const ShuffledOrder order(a.seed, a.state->epoch, static_cast<std::uint32_t>(a.rows));
  std::vector<float> target;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto position =
        static_cast<std::uint32_t>(a.state->position) + static_cast<std::uint32_t>(i);
    const std::int64_t row = a.shuffle ? order(position) : position;
    const float* x = a.x + row * a.layer[0].inputs;
    first.input.insert(first.input.end(), x, x + a.layer[0].inputs);
    target.push_back(a.y[row]);
  }
  return target;
}

// The outputs of the last layer.
std::vector<float> forward(const DenseStep& a, std::int64_t count, std::vector<Layer>& layers) {
  std::vector<float> out;
  for (int i = 0; i < a.layers; ++i) {
    const DenseLayer& shape = a.layer[i];
    Layer& layer = layers[static_cast<std::size_t>(i)];
    const bool hidden = i + 1 < a.layers;
    out.assign(static_cast<std::size_t>(count * shape.outputs), 0);
    layer.before = out;
    gemm<float>(Cpu{}, {.trans_b = Trans::kYes,
                        .m = count,
                        .n = shape.outputs,
                        .k = shape.inputs,
                        .a = layer.input.data(),
                        .lda = shape.inputs,
                        .b = a.param + shape.weight,
                        .ldb = shape.inputs,
                        .c = out.data(),
                        .ldc = shape.outputs,
                        .bias = a.param + shape.bias,
                        .activation = hidden ? a.activation : Activation::kNone,
                        .pre_activation = layer.before.data()});
    if (!hidden) break;
    if (a.dropout > 0) {
      dropout<float>(Cpu{}, {.x = out.data(),
                             .y = out.data(),
                             .mode = GradMode::kAssign,
                             .rows = count,
                             .cols = shape.outputs,
                             .p = a.dropout,
                             .key = dropout_key(a, i)});
    }
    layers[static_cast<std::size_t>(i) + 1].input = out;
  }
  return out;
}

// The gradients of layer i's parameters, and of what the layer below has before its activation.
void backward(const DenseStep& a, std::int64_t count, int i, std::vector<Layer>& layers) {
  const DenseLayer& shape = a.layer[i];
  Layer& layer = layers[static_cast<std::size_t>(i)];
  layer.weight_grad.resize(static_cast<std::size_t>(shape.outputs * shape.inputs));
  layer.bias_grad.resize(static_cast<std::size_t>(shape.outputs));
  gemm<float>(Cpu{}, {.trans_a = Trans::kYes,
                      .m = shape.outputs,
                      .n = shape.inputs,
                      .k = count,
                      .a = layer.slope.data(),
                      .lda = shape.outputs,
                      .b = layer.input.data(),
                      .ldb = shape.inputs,
                      .c = layer.weight_grad.data(),
                      .ldc = shape.inputs});
  column_sum<float>(Cpu{}, {.x = layer.slope.data(),
                            .ldx = shape.outputs,
                            .y = layer.bias_grad.data(),
                            .mode = GradMode::kAssign,
                            .rows = count,
                            .cols = shape.outputs});
  if (i == 0) return;
  Layer& below = layers[static_cast<std::size_t>(i) - 1];
  below.slope.resize(static_cast<std::size_t>(count * shape.inputs));
  gemm<float>(Cpu{}, {.m = count,
                      .n = shape.inputs,
                      .k = shape.outputs,
                      .a = layer.slope.data(),
                      .lda = shape.outputs,
                      .b = a.param + shape.weight,
                      .ldb = shape.inputs,
                      .c = below.slope.data(),
                      .ldc = shape.inputs});
  if (a.dropout > 0) {
    dropout<float>(Cpu{}, {.x = below.slope.data(),
                           .y = below.slope.data(),
                           .mode = GradMode::kAssign,
                           .rows = count,
                           .cols = shape.inputs,
                           .p = a.dropout,
                           .key = dropout_key(a, i - 1)});
  }
  activation_bwd<float>(Cpu{}, {.dy = below.slope.data(),
                                .x = below.before.data(),
                                .dx = below.slope.data(),
                                .mode = GradMode::kAssign,
                                .n = count * shape.inputs,
                                .activation = a.activation});
}

double norm_of(const std::vector<Layer>& layers) {
  double total = 0;
  for (const Layer& layer : layers) {
    for (const auto* grad : {&layer.weight_grad, &layer.bias_grad}) {
      double squares = 0;
      sum_of_squares(
          Cpu{},
          {.x = grad->data(), .out = &squares, .n = static_cast<std::int64_t>(grad->size())});
      total += squares;
    }
  }
  return std::sqrt(total);
}

void update(const DenseStep& a, std::int64_t at, const std::vector<float>& grad, double scale) {
  adamw(Cpu{}, {.param = a.param + at,
                .grad = grad.data(),
                .m = a.m + at,
                .v = a.v + at,
                .n = static_cast<std::int64_t>(grad.size()),
                .beta1 = a.beta1,
                .beta2 = a.beta2,
                .lr = *a.lr,
                .eps = a.eps,
                .weight_decay = a.weight_decay,
                .grad_scale = static_cast<float>(scale),
                .step = static_cast<std::int64_t>(a.state->optimizer_step)});
}

}  // namespace

void dense_step(Cpu, const DenseStep& a) {
  std::vector<Layer> layers(static_cast<std::size_t>(a.layers));
  const std::int64_t count =
      std::min(a.batch, a.rows - static_cast<std::int64_t>(a.state->position));
  const std::vector<float> target = gather(a, count, layers.front());
  const std::vector<float> out = forward(a, count, layers);
  loss_fwd<float>(Cpu{}, {.x = out.data(),
                          .target = target.data(),
                          .loss = a.loss,
                          .rows = count,
                          .cols = 1,
                          .kind = a.loss_kind,
                          .delta = a.delta});
  const float one = 1;
  layers.back().slope.resize(out.size());
  loss_bwd<float>(Cpu{}, {.dloss = &one,
                          .x = out.data(),
                          .target = target.data(),
                          .dx = layers.back().slope.data(),
                          .mode = GradMode::kAssign,
                          .rows = count,
                          .cols = 1,
                          .kind = a.loss_kind,
                          .delta = a.delta});
  for (int i = a.layers - 1; i >= 0; --i) backward(a, count, i, layers);

  const double norm = norm_of(layers);
  if (!std::isfinite(norm)) *a.loss = std::numeric_limits<float>::quiet_NaN();
  const bool applied = std::isfinite(*a.loss);
  DenseState next = *a.state;
  ++next.step;
  next.position += static_cast<std::uint64_t>(count);
  if (next.position >= static_cast<std::uint64_t>(a.rows)) {
    next.position = 0;
    ++next.epoch;
  }
  if (!applied) {
    ++next.not_finite;
  } else {
    const double scale = a.clip_norm > 0 ? std::min(1.0, a.clip_norm / (norm + 1e-6)) : 1.0;
    for (int i = 0; i < a.layers; ++i) {
      const Layer& layer = layers[static_cast<std::size_t>(i)];
      update(a, a.layer[i].weight, layer.weight_grad, scale);
      update(a, a.layer[i].bias, layer.bias_grad, scale);
    }
    ++next.optimizer_step;
    next.loss_sum += static_cast<double>(*a.loss) * static_cast<double>(count);
    next.samples += static_cast<std::uint64_t>(count);
  }
  *a.next_state = next;
}

}  // namespace onpa::kernels
