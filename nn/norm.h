// LayerNorm as a module.
#pragma once

#include <cstdint>

#include "nn/module.h"
#include "tensor/ops/norm.h"

namespace onpa::nn {

/// Parameters "weight" and "bias" (width). Parity: torch.nn.LayerNorm.
class LayerNorm : public Module {
 public:
  LayerNorm(std::int64_t width, float eps)
      : weight_(add_parameter("weight", {width})),
        bias_(add_parameter("bias", {width})),
        eps_(eps) {}

  /// x (..., width) to the same shape.
  Tensor forward(const Tensor& x) const { return ops::layer_norm(x, weight_, bias_, eps_); }

  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Tensor& weight_;
  Tensor& bias_;
  float eps_;
};

}  // namespace onpa::nn
