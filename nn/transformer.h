// The pre-norm transformer block and its two halves. Source: arXiv:2010.11929; parity: the blocks
// of the public PaSST code (dropout 0, exact GELU, LayerNorm eps 1e-6).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/linear.h"
#include "nn/module.h"
#include "nn/norm.h"

namespace onpa::nn {

/// What a training step drops of each block after its forward pass and works out again in backward.
/// Gradients have the same bits at every level. For width C and MLP width 4 C a block keeps, in
/// values a token, at kNone 16 C: its input, norm1's result, qkv (3 C), attention's result, the sum
/// after it, norm2's result, GELU's argument (4 C) and result (4 C).
enum class Recompute : std::uint8_t {
  kNone,
  kNormGelu,  // both layer norms' and GELU's results, rerun without a matrix product: keeps 10 C
  kMlp,       // also GELU's argument: keeps 6 C; reruns fc1
  kBlock,     // all but the block's input: keeps C; reruns everything but fc2
};
/// "none", "norm_gelu", "mlp", "block".
const std::vector<std::string>& recompute_names();
/// Throws Error (kConfig) for another name.
Recompute recompute_of(const std::string& name);

/// Multi-head self-attention with a packed projection: "qkv" (3 C, C) and "proj" (C, C).
class Attention : public Module {
 public:
  Attention(std::int64_t width, std::int64_t heads);
  /// x (B, N, C) to its queries, keys and values (B, N, 3 C).
  Tensor project(const Tensor& x) const { return qkv_.forward(x); }
  /// Every token of `qkv` is attended to; only the first `queries` ask (0: all). Returns
  /// residual + proj(attention), (B, queries, C).
  Tensor mix(const Tensor& qkv, const Tensor& residual, std::int64_t queries = 0) const;

 private:
  std::int64_t heads_;
  Linear qkv_, proj_;
};

/// Two linear maps with a GELU between: "fc1" (M, C) and "fc2" (C, M).
class Mlp : public Module {
 public:
  Mlp(std::int64_t width, std::int64_t hidden);
  /// fc1(x): (..., C) to (..., M).
  Tensor expand(const Tensor& x, kernels::Activation activation) const {
    return fc1_.forward(x, activation);
  }
  /// residual + fc2(hidden): (..., M) to (..., C).
  Tensor contract(const Tensor& hidden, const Tensor& residual) const;

 private:
  Linear fc1_, fc2_;
};

/// x += attn(norm1(x)); x += mlp(norm2(x)).
class Block : public Module {
 public:
  Block(std::int64_t width, std::int64_t heads, std::int64_t hidden);
  /// x (B, N, C) to (B, N, C), or, with `queries` > 0, to its first `queries` tokens
  /// (B, queries, C): every token is still attended to, but only those are worked out.
  Tensor forward(const Tensor& x, std::int64_t queries = 0,
                 Recompute level = Recompute::kNone) const;
  /// The queries, keys and values that forward() attends with: (B, N, C) to (B, N, 3 C).
  Tensor project(const Tensor& x) const { return attn_.project(norm1_.forward(x)); }

 private:
  Tensor attend(const Tensor& x, std::int64_t queries, Recompute level) const;
  Tensor transform(const Tensor& mixed, Recompute level) const;
  Tensor hidden(const Tensor& mixed) const;

  LayerNorm norm1_;
  Attention attn_;
  LayerNorm norm2_;
  Mlp mlp_;
};

}  // namespace onpa::nn
