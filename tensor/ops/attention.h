// Multi-head self-attention.
#pragma once

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// softmax(q k^T / sqrt(D)) v for every head, from the packed projection.
///   qkv      (B, N, 3 * H * D)  per row q, k, v, each head-major
///   heads    H, divides 1/3 of the last axis
///   queries  only the first `queries` tokens ask; 0 means all N
/// Returns (B, queries, H * D). Differentiable in qkv. Memory grows linearly with N.
/// Throws onpa::Error naming the shape if the axes do not fit, N == 0 or queries > N.
/// Source: arXiv:2307.08691. Parity: torch.nn.functional.scaled_dot_product_attention.
Tensor attention(const Tensor& qkv, std::int64_t heads, std::int64_t queries = 0);

}  // namespace onpa::ops
