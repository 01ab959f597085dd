// Rows of dense training steps, a chunk at a time: gathered, forward, loss, back, and the sums of
// the gradients, all while the chunk is in the caches of a core.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/cpu/dense_panels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dense_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/dense_gather-inl.h"
#include "kernels/cpu/dense_tile-inl.h"
#include "kernels/cpu/gelu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels {
namespace HWY_NAMESPACE {
namespace {

struct Chunk {
  const DenseStep& a;
  const DensePanels& p;
  float* memory;                             // of the group
  std::int64_t first, rows;                  // places in the batch
  std::int64_t batch_rows;                   // in the whole batch
  bool starts;                               // the sums of its group
  HWY_ALIGN float target[kDenseChunk] = {};  // 0 behind the last row, as are predictions

  float* input(int i) const { return memory + p.layer[i].input; }
  float* slope(int i) const { return memory + p.layer[i].slope; }
  float* weight_sums(int i) const { return memory + p.layer[i].weight_sums; }
  float* bias_sums(int i) const { return memory + p.layer[i].bias_sums; }
  // What dropout leaves of a positive activation's slope.
  float kept_scale() const { return 1 / (1 - a.dropout); }
};

// y = act(y) and the slope there, of n floats in whole panels.
template <Activation kActivation>
HWY_NOINLINE void activate(float* HWY_RESTRICT y, float* HWY_RESTRICT slope, std::int64_t n) {
  const TileTag d;
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const TileVector z = hn::LoadU(d, y + i);
    if constexpr (kActivation == Activation::kGelu) {
      hn::StoreU(gelu_of(d, z), d, y + i);
      hn::StoreU(gelu_slope_of(d, z), d, slope + i);
    } else {
      hn::StoreU(hn::Set(d, 1.0f), d, slope + i);
    }
  }
}

// Leaves out what dropout takes from the outputs of hidden layer i, and scales the rest. Where the
// slope follows from the output it is left alone.
template <Activation kActivation>
void drop(const Chunk& c, int i) {
  const float scale = c.kept_scale();
  RngKey key = {.seed = c.a.seed,
                .stream = kStreamDropout + (static_cast<std::uint32_t>(i) << 16),
                .step = c.a.state->step};
  for (std::int64_t row = 0; row < c.rows; ++row) {
    key.sample = static_cast<std::uint64_t>(c.first + row);
    for (std::int64_t column = 0; column < c.a.layer[i].outputs; column += 4) {
      std::uint32_t words[4];
      philox_block(key, static_cast<std::uint64_t>(column / 4), words);
      const std::int64_t at = column / kPanel * kChunkPanel + row * kPanel + column % kPanel;
      float *y = c.input(i + 1) + at, *slope = c.slope(i) + at;
      for (int j = 0; j < 4; ++j) {
        const float factor = uniform_from_bits(words[j]) >= c.a.dropout ? scale : 0;
        y[j] *= factor;
        if constexpr (kActivation != Activation::kRelu) slope[j] *= factor;
      }
    }
  }
}

// Through hidden layer i: its outputs, and their slopes where outputs do not give them.
template <Activation kActivation>
void forward(const Chunk& c, int i) {
  constexpr TileEnd kEnd = kActivation == Activation::kRelu ? TileEnd::kRelu : TileEnd::kPlain;
  const DenseLayer& shape = c.a.layer[i];
  const DensePanels::Layer& layer = c.p.layer[i];
  for (std::int64_t out = 0; out < panels_of(shape.outputs); ++out) {
    const float* weight = layer.weight_by_output + out * shape.inputs * kPanel;
    float* y = c.input(i + 1) + out * kChunkPanel;
    for_tile_rows(0, c.rows, [&]<int kRows>(std::int64_t row) {
      multiply_rows<kRows, kEnd>(c.input(i) + row * kPanel, shape.inputs, weight,
                                 layer.bias + out * kPanel, y + row * kPanel, nullptr, 1);
    });
    if constexpr (kActivation != Activation::kRelu) {
      activate<kActivation>(y, c.slope(i) + out * kChunkPanel, c.rows * kPanel);
    }
  }
  if (c.a.dropout > 0) drop<kActivation>(c, i);
}

// The gradient of what layer i reads, times the slopes there: what the layer below has to
// propagate.
template <Activation kActivation>
void backward(const Chunk& c, int i) {
  constexpr bool kRelu = kActivation == Activation::kRelu;
  constexpr TileEnd kEnd = kRelu ? TileEnd::kWherePositive : TileEnd::kTimes;
  const DenseLayer& shape = c.a.layer[i];
  for (std::int64_t in = 0; in < panels_of(shape.inputs); ++in) {
    const float* weight = c.p.layer[i].weight_by_input + in * shape.outputs * kPanel;
    float* below = c.slope(i - 1) + in * kChunkPanel;
    const float* other = kRelu ? c.input(i) + in * kChunkPanel : below;
    for_tile_rows(0, c.rows, [&]<int kRows>(std::int64_t row) {
      multiply_rows<kRows, kEnd>(c.slope(i) + row * kPanel, shape.outputs, weight, nullptr,
                                 below + row * kPanel, other + row * kPanel, c.kept_scale());
    });
  }
}

// Adds the chunk's sum over rows of a panel of slopes to `sums`, in four parts to hide latency.
HWY_INLINE void add_bias_gradients(const Chunk& c, const float* slope, float* sums) {
  const TileTag d;
  for (int at = 0; at < kPanel; at += static_cast<int>(hn::Lanes(d))) {
    TileVector part[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    std::int64_t row = 0;
    for (; row + 4 <= c.rows; row += 4) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        part[j] = hn::Add(part[j], hn::LoadU(d, slope + (row + j) * kPanel + at));
      }
    }
    for (; row < c.rows; ++row) {
      part[0] = hn::Add(part[0], hn::LoadU(d, slope + row * kPanel + at));
    }
    TileVector sum = hn::Add(hn::Add(part[0], part[1]), hn::Add(part[2], part[3]));
    if (!c.starts) sum = hn::Add(sum, hn::LoadU(d, sums + at));
    hn::StoreU(sum, d, sums + at);
  }
}

// Adds the gradients of the weights and biases of hidden layer i over the chunk.
void add_gradients(const Chunk& c, int i) {
  const DenseLayer& shape = c.a.layer[i];
  float* sums = c.weight_sums(i);
  for (std::int64_t panel = 0; panel < panels_of(shape.outputs); ++panel) {
    const float* slope = c.slope(i) + panel * kChunkPanel;
    const std::int64_t outputs = panel_outputs(shape, panel);
    for (std::int64_t in = 0; in < panels_of(shape.inputs); ++in, sums += outputs * kPanel) {
      const std::int64_t inputs = panel_inputs(shape, in);
      const float* input = c.input(i) + in * kChunkPanel;
      const float *left = slope, *right = input;
      if (inputs_lead(inputs, outputs)) std::swap(left, right);
      for_tile_rows(0, std::min(inputs, outputs), [&]<int kRows>(std::int64_t row) {
        multiply_columns<kRows>(left + row, right, c.rows, sums + row * kPanel, c.starts);
      });
    }
    add_bias_gradients(c, slope, c.bias_sums(i) + panel * kPanel);
  }
}

// What the last layer makes of kRows rows of features in panels.
template <int kRows>
HWY_NOINLINE void predict_rows(const float* x, std::int64_t panels, const float* weight, float bias,
                               float* out) {
  const TileTag d;
  TileVector sums[kRows][kTileVectors];
  for (auto& row : sums) {
    for (TileVector& sum : row) sum = hn::Zero(d);
  }
  for (std::int64_t k = 0; k < panels; ++k, x += kChunkPanel, weight += kPanel) {
#pragma GCC unroll 16
    for (int v = 0; v < kTileVectors; ++v) {
      const int at = v * static_cast<int>(hn::MaxLanes(d));
      const TileVector right = hn::LoadU(d, weight + at);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        sums[r][v] = hn::MulAdd(hn::LoadU(d, x + r * kPanel + at), right, sums[r][v]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    TileVector sum = sums[r][0];
    for (int v = 1; v < kTileVectors; ++v) sum = hn::Add(sum, sums[r][v]);
    out[r] = bias + hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

void predict(const Chunk& c, float* out) {
  const int last = c.a.layers - 1;
  const DensePanels::Layer& layer = c.p.layer[last];
  for_tile_rows(0, c.rows, [&]<int kRows>(std::int64_t row) {
    predict_rows<kRows>(c.input(last) + row * kPanel, panels_of(c.a.layer[last].inputs),
                        layer.weight_by_input, *layer.bias, out + row);
  });
}

// The loss of each difference from a target, and the slope of the mean over the batch.
struct RowLosses {
  TileVector loss, slope;
};
HWY_INLINE RowLosses row_losses(const DenseStep& a, TileVector difference, TileVector weight) {
  const TileTag d;
  const TileVector zero = hn::Zero(d), one = hn::Set(d, 1.0f), size = hn::Abs(difference);
  const TileVector sign =  // of NaN: NaN
      hn::IfThenElse(hn::Gt(difference, zero), one,
                     hn::IfThenElse(hn::Lt(difference, zero), hn::Neg(one), difference));
  switch (a.loss_kind) {
    case LossKind::kL1:
      return {size, hn::Mul(sign, weight)};
    case LossKind::kHuber: {
      const TileVector delta = hn::Set(d, a.delta), half = hn::Set(d, 0.5f);
      const auto far = hn::Gt(size, delta);
      return {hn::IfThenElse(far, hn::Mul(delta, hn::NegMulAdd(half, delta, size)),
                             hn::Mul(hn::Mul(half, difference), difference)),
              hn::Mul(hn::IfThenElse(far, hn::Mul(delta, sign), difference), weight)};
    }
    default:
      return {hn::Mul(difference, difference), hn::Mul(hn::Add(difference, difference), weight)};
  }
}

// The sum of the chunk's losses; `slope` gets their slopes.
double losses(const Chunk& c, float* HWY_RESTRICT slope) {
  const TileTag d;
  const hn::CappedTag<double, kPanel> d_double;
  const hn::Rebind<float, decltype(d_double)> d_float;
  HWY_ALIGN float prediction[kDenseChunk] = {}, loss[kDenseChunk];
  predict(c, prediction);
  const TileVector weight = hn::Set(d, 1.0f / static_cast<float>(c.batch_rows));
  for (std::int64_t row = 0; row < kDenseChunk; row += static_cast<std::int64_t>(hn::Lanes(d))) {
    const RowLosses at = row_losses(
        c.a, hn::Sub(hn::Load(d, prediction + row), hn::Load(d, c.target + row)), weight);
    hn::Store(at.loss, d, loss + row);
    hn::Store(at.slope, d, slope + row);
  }
  auto sum = hn::Zero(d_double);
  for (std::int64_t row = 0; row < kDenseChunk;
       row += static_cast<std::int64_t>(hn::Lanes(d_double))) {
    sum = hn::Add(sum, hn::PromoteTo(d_double, hn::Load(d_float, loss + row)));
  }
  return hn::GetLane(hn::SumOfLanes(d_double, sum));
}

// The last layer, which has one output, back from the slopes of the loss, of one panel of what it
// reads, `x`: the gradients of its weights, added to `sums`, and in `below`, where there is a layer
// below, what that has to propagate.
template <Activation kActivation, bool kBelow>
HWY_INLINE void backward_last_panel(const Chunk& c, const float* HWY_RESTRICT slope,
                                    const float* weight, const float* x, float* below,
                                    float* sums) {
  const TileTag d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  const TileVector zero = hn::Zero(d), scale = hn::Set(d, c.kept_scale());
  for (int v = 0; v < kPanel; v += kLanes, x += kLanes, below += kBelow ? kLanes : 0) {
    TileVector back = hn::LoadU(d, weight + v);
    if constexpr (kActivation == Activation::kRelu) back = hn::Mul(back, scale);
    const auto take = [&](std::int64_t row, TileVector& sum) HWY_ATTR {
      const TileVector here = hn::Set(d, slope[row]), y = hn::LoadU(d, x + row * kPanel);
      sum = hn::MulAdd(here, y, sum);
      if constexpr (kBelow && kActivation == Activation::kRelu) {
        hn::StoreU(hn::IfThenElseZero(hn::Gt(y, zero), hn::Mul(here, back)), d,
                   below + row * kPanel);
      } else if constexpr (kBelow) {
        float* to = below + row * kPanel;
        hn::StoreU(hn::Mul(hn::Mul(here, back), hn::LoadU(d, to)), d, to);
      }
    };
    TileVector part[4] = {c.starts ? zero : hn::LoadU(d, sums + v), zero, zero, zero};
    std::int64_t row = 0;
    for (; row + 4 <= c.rows; row += 4) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) take(row + j, part[j]);
    }
    for (; row < c.rows; ++row) take(row, part[0]);
    hn::StoreU(hn::Add(hn::Add(part[0], part[1]), hn::Add(part[2], part[3])), d, sums + v);
  }
}

template <Activation kActivation>
void backward_last(const Chunk& c, const float* slope) {
  const int last = c.a.layers - 1;
  for (std::int64_t in = 0; in < panels_of(c.a.layer[last].inputs); ++in) {
    const float* weight = c.p.layer[last].weight_by_input + in * kPanel;
    const float* x = c.input(last) + in * kChunkPanel;
    float* sums = c.weight_sums(last) + in * kPanel;
    if (last > 0) {
      backward_last_panel<kActivation, true>(c, slope, weight, x,
                                             c.slope(last - 1) + in * kChunkPanel, sums);
    } else {
      backward_last_panel<kActivation, false>(c, slope, weight, x, nullptr, sums);
    }
  }
  float bias = c.starts ? 0 : *c.bias_sums(last);
  for (std::int64_t row = 0; row < c.rows; ++row) bias += slope[row];
  *c.bias_sums(last) = bias;
}

// The sum of the losses of a chunk; adds its gradients.
template <Activation kActivation>
double run_chunk(const Chunk& c) {
  const int last = c.a.layers - 1;
  for (int i = 0; i < last; ++i) forward<kActivation>(c, i);
  HWY_ALIGN float slope[kDenseChunk];
  const double loss = losses(c, slope);
  backward_last<kActivation>(c, slope);
  for (int i = last - 1; i >= 0; --i) {
    add_gradients(c, i);
    if (i > 0) backward<kActivation>(c, i);
  }
  return loss;
}

template <Activation kActivation>
void run_chunks(const DenseStep& a, const DensePanels& p, std::int64_t count, std::int64_t group) {
  const std::int64_t begin = group * dense_group_rows(a),
                     end = std::min(count, begin + dense_group_rows(a));
  const Places places(a);
  std::uint32_t rows[2][kDenseChunk];  // of this chunk and the next
  const auto rows_at = [&](std::int64_t at) { return std::min(kDenseChunk, end - at); };
  places.find(begin, rows_at(begin), rows[0]);
  double loss = 0;
  for (std::int64_t at = begin; at < end; at += kDenseChunk) {
    const std::int64_t chunk = (at - begin) / kDenseChunk, next = at + kDenseChunk;
    if (next < end) places.find(next, rows_at(next), rows[(chunk + 1) % 2]);
    Chunk c = {.a = a,
               .p = p,
               .memory = p.groups + group * p.group_floats,
               .first = at,
               .rows = rows_at(at),
               .batch_rows = count,
               .starts = chunk == 0};
    gather(a, rows[chunk % 2], c.rows, c.input(0), c.target);
    loss += run_chunk<kActivation>(c);
  }
  p.loss[group] = loss;
}

void run_group(const DenseStep& a, const DensePanels& p, std::int64_t count, std::int64_t group) {
  switch (a.activation) {
    case Activation::kNone:
      return run_chunks<Activation::kNone>(a, p, count, group);
    case Activation::kRelu:
      return run_chunks<Activation::kRelu>(a, p, count, group);
    case Activation::kGelu:
      return run_chunks<Activation::kGelu>(a, p, count, group);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace onpa::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {

HWY_EXPORT(run_group);

void run_dense_group(const DenseStep& a, const DensePanels& p, std::int64_t count,
                     std::int64_t group) {
  HWY_DYNAMIC_DISPATCH(run_group)(a, p, count, group);
}

}  // namespace onpa::kernels
#endif
