// The memory of a dense training step on the CPU. A matrix of features lies in panels: 16 features
// of all rows, then the next 16, so that a product reads both operands and writes its result in
// whole cache lines. What pads the last panel stays 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/dense.h"

namespace onpa::kernels {

constexpr int kPanel = 16;  // features

/// Rows that go through all layers together: their activations stay in the caches of a core.
constexpr std::int64_t kDenseChunk = 64;
constexpr std::int64_t kChunkPanel = kDenseChunk * kPanel;  // floats

inline std::int64_t panels_of(std::int64_t features) {
  return (features + kPanel - 1) / kPanel;
}

/// Outputs in one of their panels.
inline std::int64_t panel_outputs(const DenseLayer& layer, std::int64_t panel) {
  return std::min<std::int64_t>(kPanel, layer.outputs - panel * kPanel);
}

/// Inputs in one of their panels.
inline std::int64_t panel_inputs(const DenseLayer& layer, std::int64_t panel) {
  return std::min<std::int64_t>(kPanel, layer.inputs - panel * kPanel);
}

/// Whether gradients of a block of weights are kept with a row of 16 outputs for each input, as
/// less of the rows is padding.
inline bool inputs_lead(std::int64_t inputs, std::int64_t outputs) {
  return inputs < outputs;
}

/// Copies the first min(count, 16) features.
inline void copy_features(const float* from, std::int64_t count, float* to) {
  if (count >= kPanel) {
    std::copy_n(from, kPanel, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

/// Pointers into DenseStep::workspace.
struct DensePanels {
  struct Layer {
    float* weight_by_output;  // (panels of outputs, inputs, 16)
    float* bias;              // (panels of outputs, 16)
    float* weight_by_input;   // (panels of inputs, outputs, 16)
    float* weight_grad;       // (outputs, inputs)
    float* bias_grad;         // (outputs)
    // Where in the memory of a group, in floats.
    std::int64_t input;        // of a chunk: (panels of inputs, 64, 16)
    std::int64_t slope;        // of a chunk, of what the layer gives: (panels of outputs, 64, 16)
    std::int64_t weight_sums;  // (panels of outputs, panels of inputs, outputs of the panel, 16):
                               // (outputs, inputs) or, see inputs_lead(), (inputs, outputs)
    std::int64_t bias_sums;    // (panels of outputs, 16)
  };
  Layer layer[kMaxDenseLayers];
  float* groups;  // (groups, group_floats): a chunk of activations and sums of gradients
  std::int64_t group_floats = 0;
  double* loss;     // (groups) sums
  double* squares;  // (tiles) sums of the squares of gradients
  std::size_t bytes = 0;

  /// For null, only `bytes` means anything.
  DensePanels(const DenseStep& a, void* workspace);
};

/// Rows whose gradients one thread sums up, chunk by chunk. Groups depend on the batch alone, so
/// that sums do not depend on the threads.
std::int64_t dense_group_rows(const DenseStep& a);

/// The panels of outputs of all layers, each a piece of work of the update.
std::int64_t dense_tiles(const DenseStep& a);

/// Calls visit(layer, panel of its outputs, tile) for the tiles [begin, end).
template <class Visit>
void for_tiles(const DenseStep& a, std::int64_t begin, std::int64_t end, const Visit& visit) {
  std::int64_t first = 0;
  for (int i = 0; i < a.layers; ++i) {
    const std::int64_t panels = panels_of(a.layer[i].outputs);
    for (std::int64_t at = std::max(begin, first); at < std::min(end, first + panels); ++at) {
      visit(i, at - first, at);
    }
    first += panels;
  }
}

/// Takes the rows of a group, of `count` in the batch, forward and back: leaves the sum of their
/// losses and the group's sums of gradients.
void run_dense_group(const DenseStep& a, const DensePanels& p, std::int64_t count,
                     std::int64_t group);

/// Adds up the gradients that `groups` groups have of a panel of outputs of layer i. Returns the
/// sum of their squares.
double sum_dense_tile(const DenseStep& a, const DensePanels& p, std::int64_t groups, int i,
                      std::int64_t panel);

/// Copies a panel of outputs of layer i from the parameters into the layouts that steps read.
void pack_dense_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel);

}  // namespace onpa::kernels
