// Elementwise activations and dropout.
#pragma once

#include "kernels/philox.h"
#include "kernels/step_state.h"
#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// x * Phi(x), exact (erf): x of any shape, f32, f64 or bf16, to the same. Differentiable. Throws
/// onpa::Error if x is undefined or of another dtype. Parity: torch.nn.functional.gelu.
Tensor gelu(const Tensor& x);

/// max(x, 0): x of any shape, f32, f64 or bf16, to the same; NaN stays NaN. Differentiable,
/// gradient 0 at 0. Throws as gelu. Parity: torch.nn.functional.relu.
Tensor relu(const Tensor& x);

/// Zeroes each element with probability p and scales the rest by 1 / (1 - p). The leading axis is
/// the sample axis: row r draws under key.sample + r. p in [0, 1), else throws onpa::Error; p == 0
/// returns x. Differentiable. With `state` (GPU only, device memory) its step replaces key.step.
Tensor dropout(const Tensor& x, float p, const RngKey& key,
               const kernels::StepState* state = nullptr);

}  // namespace onpa::ops
