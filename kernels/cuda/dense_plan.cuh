// The workspace of a dense training step, and how its two kernels share the work.
//
// A layer has its bias as one more input that is always 1, so products and gradients of weights
// and biases are one. Rows are padded with zeros to whole groups of 4 floats.
#pragma once

#include <type_traits>

#include "kernels/cuda/adamw.cuh"
#include "kernels/cuda/gpu.cuh"
#include "kernels/dense.h"

namespace onpa::gpu {

constexpr int kDenseRows = 8;       // rows of a block of the row kernel
constexpr int kDenseThreads = 256;  // of both kernels
constexpr int kDenseTile = 32;      // a block of the weight kernel has a tile this wide and high
constexpr int kDenseTileCells = kDenseTile * kDenseTile;

struct DensePlanLayer {
  int inputs, outputs;
  int input_stride, output_stride, backward_stride;
  float* forward;   // (inputs + 1, output_stride): weights transposed, then the biases
  float* backward;  // (outputs, backward_stride): weights
  float* input;     // (batch, input_stride): what the layer reads, and 1
  float* slope;     // (batch, output_stride): gradient of what comes before the activation; between
                    // forward and backward pass the activation's slope
  std::int64_t weight, bias;
  int first_tile, tile_columns;  // tiles of the gradient (outputs, inputs + 1), row by row
};

struct DensePlan {
  kernels::DenseStep a;
  DensePlanLayer layer[kernels::kMaxDenseLayers];
  AdamWConstants adamw;
  int row_blocks, tiles;
  double* row_loss;  // (row_blocks) sums of losses; not finite if a gradient is not
  double* squares;   // (tiles) sums of squares of the gradient, where it is clipped
  float* gradient;   // (tiles, kDenseTileCells), where it is clipped
};

constexpr int pad4(std::int64_t n) {
  return static_cast<int>((n + 3) / 4 * 4);
}

/// The plan of a step; `bytes` gets the workspace's size. The workspace is not read.
inline DensePlan dense_plan(const kernels::DenseStep& a, std::size_t* bytes = nullptr) {
  DensePlan plan = {};
  plan.a = a;
  plan.adamw = adamw_constants(a.beta1, a.beta2);
  auto* base = static_cast<unsigned char*>(a.workspace);
  std::size_t used = 0;
  const auto take = [&](std::int64_t count, auto* example) {
    using T = std::remove_pointer_t<decltype(example)>;
    T* part = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return part;
  };
  for (int i = 0; i < a.layers; ++i) {
    DensePlanLayer& layer = plan.layer[i];
    layer.inputs = static_cast<int>(a.layer[i].inputs);
    layer.outputs = static_cast<int>(a.layer[i].outputs);
    layer.weight = a.layer[i].weight;
    layer.bias = a.layer[i].bias;
    layer.input_stride = pad4(layer.inputs + 1);
    layer.output_stride = pad4(layer.outputs);
    layer.backward_stride = pad4(layer.inputs);
    layer.forward = take(std::int64_t{layer.inputs + 1} * layer.output_stride, layer.forward);
    layer.backward = take(std::int64_t{layer.outputs} * layer.backward_stride, layer.backward);
    layer.input = take(a.batch * layer.input_stride, layer.input);
    layer.slope = take(a.batch * layer.output_stride, layer.slope);
    layer.first_tile = plan.tiles;
    layer.tile_columns = (layer.inputs + 1 + kDenseTile - 1) / kDenseTile;
    plan.tiles += layer.tile_columns * ((layer.outputs + kDenseTile - 1) / kDenseTile);
  }
  plan.row_blocks = static_cast<int>((a.batch + kDenseRows - 1) / kDenseRows);
  plan.row_loss = take(plan.row_blocks, plan.row_loss);
  if (a.clip_norm > 0) {
    plan.squares = take(plan.tiles, plan.squares);
    plan.gradient = take(std::int64_t{plan.tiles} * kDenseTileCells, plan.gradient);
  }
  if (bytes != nullptr) *bytes = used;
  return plan;
}

/// Rows of the step that `state` is before.
GPU_FN std::int64_t dense_count(const kernels::DenseStep& a, const kernels::DenseState& state) {
  const std::int64_t left = a.rows - static_cast<std::int64_t>(state.position);
  return left < a.batch ? left : a.batch;
}

/// dense_rows.cu: losses, layer inputs and gradients of what comes before each activation.
void launch_dense_rows(kernels::Cuda dev, const DensePlan& plan);

}  // namespace onpa::gpu
