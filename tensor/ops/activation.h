// Elementwise activations and dropout.
#pragma once

#include "kernels/philox.h"
#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// x * Phi(x), exact (erf). Differentiable. Parity: torch.nn.functional.gelu.
Tensor gelu(const Tensor& x);

/// max(x, 0). Differentiable, gradient 0 at 0. Parity: torch.nn.functional.relu.
Tensor relu(const Tensor& x);

/// Zeroes each element with probability p and scales the rest by 1 / (1 - p). The leading axis is
/// the sample axis: row r draws under key.sample + r. p in [0, 1); p == 0 returns x.
/// Differentiable.
Tensor dropout(const Tensor& x, float p, const RngKey& key);

}  // namespace onpa::ops
