// The pre-norm transformer block and its two halves. Source: arXiv:2010.11929; parity: the blocks
// of the public PaSST code (dropout 0, exact GELU, LayerNorm eps 1e-6).
#pragma once

#include <cstdint>

#include "nn/linear.h"
#include "nn/module.h"
#include "nn/norm.h"

namespace onpa::nn {

/// Multi-head self-attention with a packed projection: "qkv" (3 C, C) and "proj" (C, C).
class Attention : public Module {
 public:
  Attention(std::int64_t width, std::int64_t heads);
  /// x (B, N, C) attends to itself; only the first `queries` tokens ask (0: all). Returns
  /// residual + proj(attention), (B, queries, C).
  Tensor forward(const Tensor& x, const Tensor& residual, std::int64_t queries = 0) const;

 private:
  std::int64_t heads_;
  Linear qkv_, proj_;
};

/// Two linear maps with a GELU between: "fc1" (M, C) and "fc2" (C, M).
class Mlp : public Module {
 public:
  Mlp(std::int64_t width, std::int64_t hidden);
  /// residual + fc2(gelu(fc1(x))), shape of x.
  Tensor forward(const Tensor& x, const Tensor& residual) const;

 private:
  Linear fc1_, fc2_;
};

/// x += attn(norm1(x)); x += mlp(norm2(x)).
class Block : public Module {
 public:
  Block(std::int64_t width, std::int64_t heads, std::int64_t hidden);
  /// x (B, N, C) to (B, N, C), or, with `queries` > 0, to its first `queries` tokens
  /// (B, queries, C): every token is still attended to, but only those are worked out.
  Tensor forward(const Tensor& x, std::int64_t queries = 0) const;

 private:
  LayerNorm norm1_;
  Attention attn_;
  LayerNorm norm2_;
  Mlp mlp_;
};

}  // namespace onpa::nn
