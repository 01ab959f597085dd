// Whole training steps of small dense networks. Three passes over the pool's threads: rows forward
// and back, the gradients of the weights, the update. Each works on pieces that the shape fixes.
#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/dense_panels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/optim.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dense.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/dense_tile-inl.h"
#include "kernels/cpu/gelu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels {
namespace HWY_NAMESPACE {
namespace {

// y = act(y) and the slope there, of n floats in whole panels.
template <Activation kActivation>
HWY_NOINLINE void activate(float* HWY_RESTRICT y, float* HWY_RESTRICT slope, std::int64_t n) {
  const TileTag d;
  const TileVector zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const TileVector z = hn::LoadU(d, y + i);
    if constexpr (kActivation == Activation::kRelu) {
      hn::StoreU(hn::IfThenElse(hn::Lt(z, zero), zero, z), d, y + i);  // a NaN stays one
      hn::StoreU(hn::IfThenElseZero(hn::Gt(z, zero), one), d, slope + i);
    } else if constexpr (kActivation == Activation::kGelu) {
      hn::StoreU(gelu_of(d, z), d, y + i);
      hn::StoreU(gelu_slope_of(d, z), d, slope + i);
    } else {
      hn::StoreU(one, d, slope + i);
    }
  }
}

// Rows [begin, end) through hidden layer i: its outputs and their slopes.
template <Activation kActivation>
void forward_rows(const DenseStep& a, const DensePanels& p, int i, std::int64_t begin,
                  std::int64_t end) {
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t stride = a.batch * kPanel;
  for (std::int64_t out = 0; out < panels_of(shape.outputs); ++out) {
    const float* weight = layer.weight_by_output + out * shape.inputs * kPanel;
    float* y = p.layer[i + 1].input + out * stride;
    for_tile_rows(begin, end, [&]<int kRows>(std::int64_t row) {
      multiply_rows<kRows>(layer.input + row * kPanel, stride, shape.inputs, weight,
                           layer.bias + out * kPanel, y + row * kPanel);
    });
    activate<kActivation>(y + begin * kPanel, layer.slope + out * stride + begin * kPanel,
                          (end - begin) * kPanel);
  }
}

// The gradient of what layer i reads, times the slopes there: what the layer below has to
// propagate.
void backward_rows(const DenseStep& a, const DensePanels& p, int i, std::int64_t begin,
                   std::int64_t end) {
  const TileTag d;
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t stride = a.batch * kPanel;
  HWY_ALIGN float sums[kDenseChunk * kPanel];
  for (std::int64_t in = 0; in < panels_of(shape.inputs); ++in) {
    const float* weight = layer.weight_by_input + in * shape.outputs * kPanel;
    for_tile_rows(begin, end, [&]<int kRows>(std::int64_t row) {
      multiply_rows<kRows>(layer.slope + row * kPanel, stride, shape.outputs, weight, nullptr,
                           sums + (row - begin) * kPanel);
    });
    float* below = p.layer[i - 1].slope + in * stride + begin * kPanel;
    for (std::int64_t at = 0; at < (end - begin) * kPanel;
         at += static_cast<std::int64_t>(hn::Lanes(d))) {
      hn::StoreU(hn::Mul(hn::Load(d, sums + at), hn::LoadU(d, below + at)), d, below + at);
    }
  }
}

// The sum over a row's `width` features, in panels, of feature times weight; both are padded with
// 0.
float weighted_sum(const float* x, std::int64_t panel_stride, std::int64_t width,
                   const float* weight) {
  const TileTag d;
  TileVector sums[kTileVectors];
  for (int v = 0; v < kTileVectors; ++v) sums[v] = hn::Zero(d);
  for (std::int64_t k = 0; k < width; k += kPanel, x += panel_stride) {
#pragma GCC unroll 16
    for (int v = 0; v < kTileVectors; ++v) {
      const int at = v * static_cast<int>(hn::MaxLanes(d));
      sums[v] = hn::MulAdd(hn::LoadU(d, x + at), hn::LoadU(d, weight + k + at), sums[v]);
    }
  }
  TileVector sum = sums[0];
  for (int v = 1; v < kTileVectors; ++v) sum = hn::Add(sum, sums[v]);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Gradients of the weights and biases of one panel of outputs of layer i, over `count` rows.
void weight_gradients(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel,
                      std::int64_t count) {
  const TileTag d;
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t stride = a.batch * kPanel, first = panel * kPanel;
  const std::int64_t outputs = std::min<std::int64_t>(kPanel, shape.outputs - first);
  const float* slope = layer.slope + panel * stride;
  HWY_ALIGN float sums[kPanel * kPanel] = {};
  for (std::int64_t in = 0; in < shape.inputs; in += kPanel) {
    for_tile_rows(0, outputs, [&]<int kRows>(std::int64_t row) {
      multiply_columns<kRows>(slope + row, layer.input + in * a.batch, count, sums + row * kPanel);
    });
    for (std::int64_t row = 0; row < outputs; ++row) {
      copy_features(sums + row * kPanel, shape.inputs - in,
                    layer.weight_grad + (first + row) * shape.inputs + in);
    }
  }
  std::fill_n(sums, kPanel, 0.0f);
  for (std::int64_t row = 0; row < count; ++row) {
    for (int v = 0; v < kPanel; v += static_cast<int>(hn::Lanes(d))) {
      hn::Store(hn::Add(hn::Load(d, sums + v), hn::LoadU(d, slope + row * kPanel + v)), d,
                sums + v);
    }
  }
  std::copy_n(sums, outputs, layer.bias_grad + first);
}

void forward(const DenseStep& a, const DensePanels& p, int i, std::int64_t begin,
             std::int64_t end) {
  switch (a.activation) {
    case Activation::kNone:
      return forward_rows<Activation::kNone>(a, p, i, begin, end);
    case Activation::kRelu:
      return forward_rows<Activation::kRelu>(a, p, i, begin, end);
    case Activation::kGelu:
      return forward_rows<Activation::kGelu>(a, p, i, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace onpa::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {

HWY_EXPORT(forward);
HWY_EXPORT(backward_rows);
HWY_EXPORT(weight_gradients);
HWY_EXPORT(weighted_sum);

namespace {

// The output, loss and slope of one row, from the last hidden layer's activations.
struct RowLoss {
  float loss, slope;  // slope: of the mean over the batch
};
RowLoss row_loss(const DenseStep& a, float prediction, float target, float weight) {
  const float d = prediction - target, size = std::abs(d);
  const float sign = d > 0 ? 1.0f : d < 0 ? -1.0f : d;  // of NaN: NaN
  switch (a.loss_kind) {
    case LossKind::kL1:
      return {size, sign * weight};
    case LossKind::kHuber:
      return size > a.delta ? RowLoss{a.delta * (size - 0.5f * a.delta), a.delta * sign * weight}
                            : RowLoss{0.5f * d * d, d * weight};
    default:
      return {d * d, 2 * d * weight};
  }
}

// The rows of a large data set lie anywhere: all are asked for before the first is used.
void gather_rows(const DenseStep& a, const DensePanels& p, std::int64_t begin, std::int64_t end) {
  const ShuffledOrder order(a.seed, a.state->epoch, static_cast<std::uint32_t>(a.rows));
  const std::int64_t inputs = a.layer[0].inputs;
  std::int64_t rows[kDenseChunk];
  for (std::int64_t i = begin; i < end; ++i) {
    const auto position =
        static_cast<std::uint32_t>(a.state->position) + static_cast<std::uint32_t>(i);
    const std::int64_t row = a.shuffle ? order(position) : position;
    rows[i - begin] = row;
    hwy::Prefetch(a.x + row * inputs);
    hwy::Prefetch(a.x + (row + 1) * inputs - 1);
    hwy::Prefetch(a.y + row);
  }
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t row = rows[i - begin];
    for (std::int64_t first = 0; first < inputs; first += kPanel) {
      copy_features(a.x + row * inputs + first, inputs - first,
                    p.layer[0].input + first * a.batch + i * kPanel);
    }
    p.target[i] = a.y[row];
  }
}

// Leaves out what dropout takes from the outputs of hidden layer i, and scales the rest.
void drop(const DenseStep& a, const DensePanels& p, int i, std::int64_t begin, std::int64_t end) {
  const float scale = 1 / (1 - a.dropout);
  RngKey key = {.seed = a.seed,
                .stream = kStreamDropout + (static_cast<std::uint32_t>(i) << 16),
                .step = a.state->step};
  for (std::int64_t row = begin; row < end; ++row) {
    key.sample = static_cast<std::uint64_t>(row);
    for (std::int64_t column = 0; column < a.layer[i].outputs; column += 4) {
      std::uint32_t words[4];
      philox_block(key, static_cast<std::uint64_t>(column / 4), words);
      const std::int64_t at = column / kPanel * a.batch * kPanel + row * kPanel + column % kPanel;
      float *y = p.layer[i + 1].input + at, *slope = p.layer[i].slope + at;
      for (int j = 0; j < 4; ++j) {
        const float factor = uniform_from_bits(words[j]) >= a.dropout ? scale : 0;
        y[j] *= factor;
        slope[j] *= factor;
      }
    }
  }
}

// Rows [begin, end) forward, their loss, and back to the slopes of the first layer.
void run_rows(const DenseStep& a, const DensePanels& p, std::int64_t count, std::int64_t begin,
              std::int64_t end) {
  gather_rows(a, p, begin, end);
  const int last = a.layers - 1;
  for (int i = 0; i < last; ++i) {
    HWY_DYNAMIC_DISPATCH(forward)(a, p, i, begin, end);
    if (a.dropout > 0) drop(a, p, i, begin, end);
  }
  const DensePanels::Layer& layer = p.layer[last];
  const std::int64_t inputs = a.layer[last].inputs;
  const float *weight = layer.weight_by_input, bias = *layer.bias;
  double loss = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const float y = bias + HWY_DYNAMIC_DISPATCH(weighted_sum)(layer.input + row * kPanel,
                                                              a.batch * kPanel, inputs, weight);
    const RowLoss one = row_loss(a, y, p.target[row], 1.0f / static_cast<float>(count));
    loss += static_cast<double>(one.loss);
    layer.slope[row * kPanel] = one.slope;
  }
  p.loss[begin / kDenseChunk] = loss;
  for (int i = last; i > 0; --i) HWY_DYNAMIC_DISPATCH(backward_rows)(a, p, i, begin, end);
}

// The squares of the gradients of a tile.
double squares_of(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel) {
  const DenseLayer& shape = a.layer[i];
  const std::int64_t first = panel * kPanel,
                     outputs = std::min<std::int64_t>(kPanel, shape.outputs - first);
  double weights = 0, biases = 0;
  sum_of_squares(Cpu{}, {.x = p.layer[i].weight_grad + first * shape.inputs,
                         .out = &weights,
                         .n = outputs * shape.inputs});
  sum_of_squares(Cpu{}, {.x = p.layer[i].bias_grad + first, .out = &biases, .n = outputs});
  return weights + biases;
}

void update_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel,
                 double scale) {
  const DenseLayer& shape = a.layer[i];
  const std::int64_t first = panel * kPanel,
                     outputs = std::min<std::int64_t>(kPanel, shape.outputs - first);
  const auto update = [&](std::int64_t at, const float* grad, std::int64_t n) {
    adamw(Cpu{}, {.param = a.param + at,
                  .grad = grad,
                  .m = a.m + at,
                  .v = a.v + at,
                  .n = n,
                  .beta1 = a.beta1,
                  .beta2 = a.beta2,
                  .lr = *a.lr,
                  .eps = a.eps,
                  .weight_decay = a.weight_decay,
                  .grad_scale = static_cast<float>(scale),
                  .step = static_cast<std::int64_t>(a.state->optimizer_step)});
  };
  update(shape.weight + first * shape.inputs, p.layer[i].weight_grad + first * shape.inputs,
         outputs * shape.inputs);
  update(shape.bias + first, p.layer[i].bias_grad + first, outputs);
  pack_tile(a, p, i, panel);
}

}  // namespace

void dense_step(Cpu, const DenseStep& a) {
  ONPA_CHECK(a.workspace != nullptr, "dense_step: no workspace");
  const DensePanels p(a, a.workspace);
  const std::int64_t count =
      std::min(a.batch, a.rows - static_cast<std::int64_t>(a.state->position));
  parallel_for(count, kDenseChunk, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += kDenseChunk) {
      run_rows(a, p, count, begin, std::min(end, begin + kDenseChunk));
    }
  });
  const std::int64_t tiles = dense_tiles(a);
  parallel_for(tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    for_tiles(a, begin, end, [&](int i, std::int64_t panel, std::int64_t tile) {
      HWY_DYNAMIC_DISPATCH(weight_gradients)(a, p, i, panel, count);
      p.squares[tile] = squares_of(a, p, i, panel);
    });
  });
  double loss = 0, squares = 0;
  for (std::int64_t c = 0; c * kDenseChunk < count; ++c) loss += p.loss[c];
  for (std::int64_t t = 0; t < tiles; ++t) squares += p.squares[t];
  const double norm = std::sqrt(squares);
  *a.loss = std::isfinite(norm) ? static_cast<float>(loss / static_cast<double>(count))
                                : std::numeric_limits<float>::quiet_NaN();
  if (a.grad_norm != nullptr) *a.grad_norm = static_cast<float>(norm);
  DenseState next = *a.state;
  ++next.step;
  next.position += static_cast<std::uint64_t>(count);
  if (next.position >= static_cast<std::uint64_t>(a.rows)) {
    next.position = 0;
    ++next.epoch;
  }
  if (!std::isfinite(*a.loss)) {
    ++next.not_finite;
  } else {
    const double scale = a.clip_norm > 0 ? std::min(1.0, a.clip_norm / (norm + 1e-6)) : 1.0;
    parallel_for(tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      for_tiles(a, begin, end, [&](int i, std::int64_t panel, std::int64_t) {
        update_tile(a, p, i, panel, scale);
      });
    });
    ++next.optimizer_step;
    next.loss_sum += static_cast<double>(*a.loss) * static_cast<double>(count);
    next.samples += static_cast<std::uint64_t>(count);
  }
  *a.next_state = next;
}

}  // namespace onpa::kernels
#endif
