#include "kernels/cpu/dense_panels.h"

namespace onpa::kernels {

DensePanels::DensePanels(const DenseStep& a, void* workspace) {
  const auto take = [&]<class T>(T*& pointer, std::int64_t count) {
    pointer = workspace == nullptr
                  ? nullptr
                  : reinterpret_cast<T*>(static_cast<std::byte*>(workspace) + bytes);
    bytes += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
  };
  for (int i = 0; i < a.layers; ++i) {
    const DenseLayer& shape = a.layer[i];
    const std::int64_t ins = panels_of(shape.inputs) * kPanel,
                       outs = panels_of(shape.outputs) * kPanel;
    take(layer[i].input, ins * a.batch);
    take(layer[i].slope, outs * a.batch);
    take(layer[i].weight_by_output, outs * shape.inputs);
    take(layer[i].bias, outs);
    take(layer[i].weight_by_input, ins * shape.outputs);
    take(layer[i].weight_grad, shape.outputs * shape.inputs);
    take(layer[i].bias_grad, shape.outputs);
  }
  take(target, a.batch);
  take(loss, (a.batch + kDenseChunk - 1) / kDenseChunk);
  take(squares, dense_tiles(a));
}

std::int64_t dense_tiles(const DenseStep& a) {
  std::int64_t tiles = 0;
  for (int i = 0; i < a.layers; ++i) tiles += panels_of(a.layer[i].outputs);
  return tiles;
}

void pack_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel) {
  const DenseLayer& shape = a.layer[i];
  const DensePanels::Layer& layer = p.layer[i];
  const std::int64_t first = panel * kPanel,
                     outputs = std::min<std::int64_t>(kPanel, shape.outputs - first);
  const float* weight = a.param + shape.weight + first * shape.inputs;
  float* by_output = layer.weight_by_output + first * shape.inputs;
  for (std::int64_t k = 0; k < shape.inputs; ++k) {
    for (std::int64_t j = 0; j < outputs; ++j) {
      by_output[k * kPanel + j] = weight[j * shape.inputs + k];
    }
  }
  std::copy_n(a.param + shape.bias + first, outputs, layer.bias + first);
  for (std::int64_t k = 0; k < shape.inputs; k += kPanel) {
    float* by_input = layer.weight_by_input + k * shape.outputs + first * kPanel;
    for (std::int64_t j = 0; j < outputs; ++j) {
      copy_features(weight + j * shape.inputs + k, shape.inputs - k, by_input + j * kPanel);
    }
  }
}

std::size_t dense_step_workspace_bytes(Cpu, const DenseStep& a) {
  return DensePanels(a, nullptr).bytes;
}

void dense_pack(Cpu, const DenseStep& a) {
  const DensePanels p(a, a.workspace);
  std::fill_n(static_cast<std::byte*>(a.workspace), p.bytes, std::byte{0});
  for_tiles(a, 0, dense_tiles(a),
            [&](int i, std::int64_t panel, std::int64_t) { pack_tile(a, p, i, panel); });
}

}  // namespace onpa::kernels
