#include "nn/transformer.h"

#include "tensor/op_scope.h"
#include "tensor/ops/attention.h"
#include "tensor/ops/index.h"

namespace onpa::nn {
namespace {

constexpr float kNormEps = 1e-6f;

}  // namespace

Attention::Attention(std::int64_t width, std::int64_t heads)
    : heads_(heads), qkv_(width, 3 * width), proj_(width, width) {
  add_module("qkv", qkv_);
  add_module("proj", proj_);
}

Tensor Attention::forward(const Tensor& x, const Tensor& residual, std::int64_t queries) const {
  const PhaseScope scope("attention");
  const Tensor mixed = ops::attention(qkv_.forward(x), heads_, queries);
  return proj_.forward(mixed, kernels::Activation::kNone, residual);
}

Mlp::Mlp(std::int64_t width, std::int64_t hidden) : fc1_(width, hidden), fc2_(hidden, width) {
  add_module("fc1", fc1_);
  add_module("fc2", fc2_);
}

Tensor Mlp::forward(const Tensor& x, const Tensor& residual) const {
  const PhaseScope scope("mlp");
  const Tensor hidden = fc1_.forward(x, kernels::Activation::kGelu);
  return fc2_.forward(hidden, kernels::Activation::kNone, residual);
}

Block::Block(std::int64_t width, std::int64_t heads, std::int64_t hidden)
    : norm1_(width, kNormEps), attn_(width, heads), norm2_(width, kNormEps), mlp_(width, hidden) {
  add_module("norm1", norm1_);
  add_module("attn", attn_);
  add_module("norm2", norm2_);
  add_module("mlp", mlp_);
}

Tensor Block::forward(const Tensor& x, std::int64_t queries) const {
  const PhaseScope scope("block");
  const Tensor residual = queries > 0 ? ops::leading_rows(x, queries) : x;
  const Tensor mixed = attn_.forward(norm1_.forward(x), residual, queries);
  return mlp_.forward(norm2_.forward(mixed), mixed);
}

}  // namespace onpa::nn
