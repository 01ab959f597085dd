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

inline std::int64_t panels_of(std::int64_t features) {
  return (features + kPanel - 1) / kPanel;
}

/// Copies the first min(count, 16) features.
inline void copy_features(const float* from, std::int64_t count, float* to) {
  if (count >= kPanel) {
    std::copy_n(from, kPanel, to);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

/// Pointers into DenseStep::workspace. Rows are those of the batch.
struct DensePanels {
  struct Layer {
    float* input;  // (panels of inputs, batch, 16)
    float* slope;  // of what the layer gives, then its gradient: (panels of outputs, batch, 16)
    float* weight_by_output;  // (panels of outputs, inputs, 16)
    float* bias;              // (panels of outputs, 16)
    float* weight_by_input;   // (panels of inputs, outputs, 16)
    float* weight_grad;       // (outputs, inputs)
    float* bias_grad;         // (outputs)
  };
  Layer layer[kMaxDenseLayers];
  float* target;    // (batch)
  double* loss;     // (chunks of rows) sums
  double* squares;  // (tiles) sums of the squares of gradients
  std::size_t bytes = 0;

  /// For null, only `bytes` means anything.
  DensePanels(const DenseStep& a, void* workspace);
};

/// Rows that go through all layers together: their activations stay in the caches of a core.
constexpr std::int64_t kDenseChunk = 64;

/// The panels of outputs of all layers, each a piece of work of the weight gradients.
std::int64_t dense_tiles(const DenseStep& a);

/// Calls visit(layer, panel of its outputs) for the tiles [begin, end).
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

/// Copies a panel of outputs of layer i from the parameters into the layouts that steps read.
void pack_tile(const DenseStep& a, const DensePanels& p, int i, std::int64_t panel);

}  // namespace onpa::kernels
