// Affine maps with fused epilogues.
#pragma once

#include "kernels/gemm.h"
#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// a (M, K) times b (K, N), without an epilogue; a layer uses linear. Returns (M, N).
/// Differentiable in both. Throws onpa::Error if a shape, dtype or device disagrees. Parity:
/// torch.matmul.
Tensor matmul(const Tensor& a, const Tensor& b);

/// act(x W^T + bias) + residual.
///   x         (..., K)
///   weight    (N, K)   as torch.nn.Linear
///   bias      (N)      or undefined
///   residual  (..., N) or undefined
/// Returns (..., N). Differentiable in all four. Throws onpa::Error if a shape, dtype or device
/// disagrees. Parity: torch.nn.functional.linear (and gelu, relu).
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              kernels::Activation activation = kernels::Activation::kNone,
              const Tensor& residual = {});

}  // namespace onpa::ops
