// The dense regressor on tabular features.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "nn/module.h"

namespace onpa::nn {

struct DenseConfig {
  std::int64_t inputs = 10;
  std::vector<std::int64_t> hidden = {256, 256, 128};
  std::int64_t outputs = 1;
  kernels::Activation activation = kernels::Activation::kRelu;
  float dropout = 0;  // after each hidden layer, training only
  /// Throws Error (kConfig) naming the field that is out of range.
  void validate() const;
};

/// Parameters "layers.0.weight", "layers.0.bias", ...; initialised as torch.nn.Linear.
class Dense : public Module {
 public:
  explicit Dense(const DenseConfig& config);
  void initialize(std::uint64_t seed);
  /// x (B, inputs) to (B, outputs). Dropout in training mode draws from (seed, step, row), where
  /// row 0 of x counts as `first_row`.
  Tensor forward(const Tensor& x, std::uint64_t seed = 0, std::uint64_t step = 0,
                 std::int64_t first_row = 0) const;
  const DenseConfig& config() const { return config_; }

 private:
  DenseConfig config_;
  std::vector<Tensor*> weights_, biases_;
};

}  // namespace onpa::nn
