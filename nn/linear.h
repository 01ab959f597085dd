// Linear: an affine map as a module.
#pragma once

#include <cstdint>

#include "nn/module.h"
#include "tensor/ops/linear.h"

namespace onpa::nn {

/// Parameters "weight" (outputs, inputs) and "bias" (outputs). Parity: torch.nn.Linear.
class Linear : public Module {
 public:
  Linear(std::int64_t inputs, std::int64_t outputs)
      : weight_(add_parameter("weight", {outputs, inputs})),
        bias_(add_parameter("bias", {outputs})) {}

  /// activation(x W^T + bias) + residual: x (..., inputs) to (..., outputs).
  Tensor forward(const Tensor& x, kernels::Activation activation = kernels::Activation::kNone,
                 const Tensor& residual = {}) const {
    return ops::linear(x, weight_, bias_, activation, residual);
  }

  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Tensor& weight_;
  Tensor& bias_;
};

}  // namespace onpa::nn
