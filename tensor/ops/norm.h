// Normalisation.
#pragma once

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// LayerNorm over the last axis.
///   x       (..., C)  f32 or f64
///   weight  (C)       same dtype and device as x
///   bias    (C)
/// Returns (..., C). Differentiable in x, weight, bias. Throws onpa::Error if a shape, dtype or
/// device disagrees, or C == 0. Source: arXiv:1607.06450. Parity: torch.nn.functional.layer_norm.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps = 1e-5f);

struct AddLayerNorm {
  Tensor sum, y;
};

/// sum = x + residual and y = layer_norm(sum), in one pass.
///   x, residual   (..., C)  f32, f64 or, on a GPU, bf16
///   weight, bias  (C)       same dtype and device as x
/// Returns both, (..., C), the same bits as two passes. Differentiable in all four. Throws
/// onpa::Error if a shape, dtype or device disagrees, or C == 0. Where a matrix product makes x,
/// its epilogue adds a residual for less.
AddLayerNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                            const Tensor& bias, float eps = 1e-5f);

}  // namespace onpa::ops
