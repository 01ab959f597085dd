#include "nn/transformer.h"

#include <algorithm>

#include "tensor/op_scope.h"
#include "tensor/ops/activation.h"
#include "tensor/ops/attention.h"
#include "tensor/ops/index.h"
#include "tensor/recompute.h"

namespace onpa::nn {
namespace {

constexpr float kNormEps = 1e-6f;

}  // namespace

const std::vector<std::string>& recompute_names() {
  static const std::vector<std::string> names = {"none", "norm_gelu", "mlp", "block"};
  return names;
}

Recompute recompute_of(const std::string& name) {
  const std::vector<std::string>& names = recompute_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    fail(ExitCode::kConfig, "recompute: '", name, "', want none, norm_gelu, mlp or block");
  }
  return static_cast<Recompute>(found - names.begin());
}

Attention::Attention(std::int64_t width, std::int64_t heads)
    : heads_(heads), qkv_(width, 3 * width), proj_(width, width) {
  add_module("qkv", qkv_);
  add_module("proj", proj_);
}

Tensor Attention::mix(const Tensor& qkv, const Tensor& residual, std::int64_t queries) const {
  const Tensor mixed = ops::attention(qkv, heads_, queries);
  return proj_.forward(mixed, kernels::Activation::kNone, residual);
}

Mlp::Mlp(std::int64_t width, std::int64_t hidden) : fc1_(width, hidden), fc2_(hidden, width) {
  add_module("fc1", fc1_);
  add_module("fc2", fc2_);
}

Tensor Mlp::contract(const Tensor& hidden, const Tensor& residual) const {
  return fc2_.forward(hidden, kernels::Activation::kNone, residual);
}

Block::Block(std::int64_t width, std::int64_t heads, std::int64_t hidden)
    : norm1_(width, kNormEps), attn_(width, heads), norm2_(width, kNormEps), mlp_(width, hidden) {
  add_module("norm1", norm1_);
  add_module("attn", attn_);
  add_module("norm2", norm2_);
  add_module("mlp", mlp_);
}

// x + attention(norm1(x)).
Tensor Block::attend(const Tensor& x, std::int64_t queries, Recompute level) const {
  const PhaseScope scope("attention");
  const bool keep_norm = level == Recompute::kNone || level == Recompute::kBlock;
  const Tensor qkv =
      keep_norm
          ? attn_.project(norm1_.forward(x))
          : recompute(
                {x}, [this](const Tensors& in) { return Tensors{norm1_.forward(in[0])}; },
                [this](const Tensors&, const Tensors& made) { return attn_.project(made[0]); });
  return attn_.mix(qkv, queries > 0 ? ops::leading_rows(x, queries) : x, queries);
}

// gelu(fc1(norm2(mixed))).
Tensor Block::hidden(const Tensor& mixed) const {
  return mlp_.expand(norm2_.forward(mixed), kernels::Activation::kGelu);
}

Tensor Block::forward(const Tensor& x, std::int64_t queries, Recompute level) const {
  const PhaseScope scope("block");
  if (level == Recompute::kBlock) {
    return recompute(
        {x},
        [this, queries](const Tensors& in) {
          const Tensor mixed = attend(in[0], queries, Recompute::kBlock);
          const PhaseScope inner("mlp");
          return Tensors{mixed, hidden(mixed)};
        },
        [this](const Tensors&, const Tensors& made) { return mlp_.contract(made[1], made[0]); });
  }
  return transform(attend(x, queries, level), level);
}

// mixed + mlp(norm2(mixed)).
Tensor Block::transform(const Tensor& mixed, Recompute level) const {
  const PhaseScope scope("mlp");
  if (level == Recompute::kNone) return mlp_.contract(hidden(mixed), mixed);
  if (level == Recompute::kMlp) {
    return recompute(
        {mixed}, [this](const Tensors& in) { return Tensors{hidden(in[0])}; },
        [this](const Tensors& in, const Tensors& made) { return mlp_.contract(made[0], in[0]); });
  }
  const Tensor expanded = recompute(
      {mixed}, [this](const Tensors& in) { return Tensors{norm2_.forward(in[0])}; },
      [this](const Tensors&, const Tensors& made) {
        return mlp_.expand(made[0], kernels::Activation::kNone);
      });
  return recompute(
      {expanded, mixed}, [](const Tensors& in) { return Tensors{ops::gelu(in[0])}; },
      [this](const Tensors& in, const Tensors& made) { return mlp_.contract(made[0], in[1]); });
}

}  // namespace onpa::nn
