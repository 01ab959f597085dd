#include "kernels/cpu/dense_panels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dense_panels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/dense_tile-inl.h"
#include "kernels/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels {
namespace HWY_NAMESPACE {
namespace {

double sum_tile(const DenseStep& a, const DensePanels& p, std::int64_t groups, int i,
                std::int64_t panel) {
  const TileTag d;
  const hn::CappedTag<double, kPanel> d_double;
  const hn::Rebind<float, decltype(d_double)> d_float;
  constexpr int kParts = kPanel / static_cast<int>(hn::MaxLanes(d_double));
  hn::Vec<decltype(d_double)> squares[kParts];
  for (auto& part : squares) part = hn::Zero(d_double);
  // Of 16 floats of each group; `sum` gets them.
  const auto add_up = [&](const float* from, float* sum) HWY_ATTR {
#pragma GCC unroll 16
    for (int v = 0; v < kTileVectors; ++v) {
      const int at = v * static_cast<int>(hn::MaxLanes(d));
      TileVector total = hn::LoadU(d, from + at);
      for (std::int64_t g = 1; g < groups; ++g) {
        total = hn::Add(total, hn::LoadU(d, from + g * p.group_floats + at));
      }
      hn::StoreU(total, d, sum + at);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kParts; ++j) {
      const auto part =
          hn::PromoteTo(d_double, hn::LoadU(d_float, sum + j * hn::MaxLanes(d_double)));
      squares[j] = hn::MulAdd(part, part, squares[j]);
    }
  };
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t outputs = panel_outputs(shape, panel), first = panel * kPanel;
  const float* from = p.groups + layer.weight_sums + first * panels_of(shape.inputs) * kPanel;
  HWY_ALIGN float sum[kPanel];
  for (std::int64_t in = 0; in < panels_of(shape.inputs); ++in, from += outputs * kPanel) {
    const std::int64_t inputs = panel_inputs(shape, in);
    float* grad = layer.weight_grad + first * shape.inputs + in * kPanel;
    if (inputs_lead(inputs, outputs)) {
      for (std::int64_t k = 0; k < inputs; ++k) {
        add_up(from + k * kPanel, sum);
        for (std::int64_t j = 0; j < outputs; ++j) grad[j * shape.inputs + k] = sum[j];
      }
      continue;
    }
    for (std::int64_t j = 0; j < outputs; ++j, grad += shape.inputs) {
      const bool whole = inputs == kPanel;
      add_up(from + j * kPanel, whole ? grad : sum);
      if (!whole) copy_features(sum, inputs, grad);
    }
  }
  add_up(p.groups + layer.bias_sums + first, sum);
  copy_features(sum, outputs, layer.bias_grad + first);
  for (int j = 1; j < kParts; ++j) squares[0] = hn::Add(squares[0], squares[j]);
  return hn::GetLane(hn::SumOfLanes(d_double, squares[0]));
}

void pack_by_output(const float* weight, std::int64_t outputs, std::int64_t inputs, float* to) {
  const std::int64_t rows = outputs / 4 * 4, columns = inputs / 4 * 4;
  for (std::int64_t k = 0; k < columns; k += 4) {
    for (std::int64_t j = 0; j < rows; j += 4) {
      transpose_4x4(weight + j * inputs + k, inputs, to + k * kPanel + j, kPanel);
    }
  }
  for (std::int64_t j = 0; j < outputs; ++j) {
    for (std::int64_t k = j < rows ? columns : 0; k < inputs; ++k) {
      to[k * kPanel + j] = weight[j * inputs + k];
    }
  }
}

HWY_INLINE void copy_panel(const float* from, float* to) {
  const TileTag d;
#pragma GCC unroll 16
  for (int v = 0; v < kTileVectors; ++v) {
    const int at = v * static_cast<int>(hn::MaxLanes(d));
    hn::StoreU(hn::LoadU(d, from + at), d, to + at);
  }
}

void pack_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel) {
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t outputs = panel_outputs(shape, panel), first = panel * kPanel;
  const float* weight = a.param + shape.weight + first * shape.inputs;
  pack_by_output(weight, outputs, shape.inputs, layer.weight_by_output + first * shape.inputs);
  for (std::int64_t in = 0; in < panels_of(shape.inputs); ++in) {
    const std::int64_t inputs = panel_inputs(shape, in);
    const float* from = weight + in * kPanel;
    float* to = layer.weight_by_input + (in * shape.outputs + first) * kPanel;
    for (std::int64_t j = 0; j < outputs; ++j, from += shape.inputs, to += kPanel) {
      if (inputs == kPanel) {
        copy_panel(from, to);
      } else {
        copy_features(from, inputs, to);
      }
    }
  }
  copy_features(a.param + shape.bias + first, outputs, layer.bias + first);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace onpa::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {

HWY_EXPORT(sum_tile);
HWY_EXPORT(pack_tile);

namespace {

// The gradients of a group stay in the caches of its core while its chunks go by, and groups are
// few enough that adding them up costs little: with more than 16 they grow with the batch.
constexpr std::int64_t kSmallestGroup = 128, kMostGroups = 16;

}  // namespace

std::int64_t dense_group_rows(const DenseStep& a) {
  const std::int64_t rows = (a.batch + kMostGroups - 1) / kMostGroups;
  return std::max(kSmallestGroup, (rows + kDenseChunk - 1) / kDenseChunk * kDenseChunk);
}

DensePanels::DensePanels(const DenseStep& a, void* workspace) {
  const auto take = [&]<class T>(T*& pointer, std::int64_t count) {
    pointer = workspace == nullptr
                  ? nullptr
                  : reinterpret_cast<T*>(static_cast<std::byte*>(workspace) + bytes);
    bytes += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
  };
  const auto take_in_group = [&](std::int64_t& at, std::int64_t count) {
    at = group_floats;
    group_floats += (count + kPanel - 1) / kPanel * kPanel;
  };
  for (int i = 0; i < a.layers; ++i) {
    const DenseLayer& shape = a.layer[i];
    const std::int64_t ins = panels_of(shape.inputs) * kPanel,
                       outs = panels_of(shape.outputs) * kPanel;
    take(layer[i].weight_by_output, outs * shape.inputs);
    take(layer[i].bias, outs);
    take(layer[i].weight_by_input, ins * shape.outputs);
    take(layer[i].weight_grad, shape.outputs * shape.inputs);
    take(layer[i].bias_grad, shape.outputs);
    take_in_group(layer[i].input, ins * kDenseChunk);
    take_in_group(layer[i].slope, outs * kDenseChunk);
    take_in_group(layer[i].weight_sums, shape.outputs * ins);
    take_in_group(layer[i].bias_sums, outs);
  }
  const std::int64_t group_rows = dense_group_rows(a),
                     count = (a.batch + group_rows - 1) / group_rows;
  take(groups, count * group_floats);
  take(loss, count);
  take(squares, dense_tiles(a));
}

std::int64_t dense_tiles(const DenseStep& a) {
  std::int64_t tiles = 0;
  for (int i = 0; i < a.layers; ++i) tiles += panels_of(a.layer[i].outputs);
  return tiles;
}

double sum_dense_tile(const DenseStep& a, const DensePanels& p, std::int64_t groups, int i,
                      std::int64_t panel) {
  return HWY_DYNAMIC_DISPATCH(sum_tile)(a, p, groups, i, panel);
}

void pack_dense_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel) {
  HWY_DYNAMIC_DISPATCH(pack_tile)(a, p, i, panel);
}

std::size_t dense_step_workspace_bytes(Cpu, const DenseStep& a) {
  return DensePanels(a, nullptr).bytes;
}

void dense_pack(Cpu, const DenseStep& a) {
  const DensePanels p(a, a.workspace);
  std::fill_n(static_cast<std::byte*>(a.workspace), p.bytes, std::byte{0});
  for_tiles(a, 0, dense_tiles(a),
            [&](int i, std::int64_t panel, std::int64_t) { pack_dense_tile(a, p, i, panel); });
}

}  // namespace onpa::kernels
#endif
