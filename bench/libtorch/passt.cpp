#include <ATen/ATen.h>

#include <string>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

constexpr std::int64_t kHeads = 12, kWidth = 768, kPatch = 16, kStride = 10, kPrefixTokens = 2;
constexpr int kDepth = 12;
constexpr double kNormEps = 1e-6, kHeadNormEps = 1e-5;

class Model {
 public:
  explicit Model(const Inputs& parameters) : parameters_(parameters) {}

  at::Tensor tokens(const at::Tensor& mel, const at::Tensor& keep) const {
    const std::int64_t columns = (mel.size(2) - kPatch) / kStride + 1;
    const at::Tensor row = keep.div(columns, "floor"), column = keep.remainder(columns);
    const at::Tensor patches = mel.unfold(1, kPatch, kStride).unfold(2, kPatch, kStride);
    at::Tensor x =
        at::linear(patches.index({at::indexing::Slice(), row, column}).flatten(2),
                   get("patch_embed.proj.weight").view({kWidth, -1}), get("patch_embed.proj.bias"));
    x = x + get("freq_new_pos_embed").view({kWidth, -1}).t().index_select(0, row) +
        get("time_new_pos_embed").view({kWidth, -1}).t().index_select(0, column);
    const at::Tensor prefix =
        at::cat({get("cls_token"), get("dist_token")}, 1) + get("new_pos_embed");
    return at::cat({prefix.expand({mel.size(0), -1, -1}), x}, 1);
  }

  at::Tensor norm(const at::Tensor& x, const std::string& name, double eps) const {
    return at::layer_norm(x, {kWidth}, get(name + ".weight"), get(name + ".bias"), eps);
  }
  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    return at::linear(x, get(name + ".weight"), get(name + ".bias"));
  }

  at::Tensor block(at::Tensor x, int index) const {
    const std::string name = "blocks." + std::to_string(index) + ".";
    const std::int64_t batch = x.size(0), tokens = x.size(1);
    const at::Tensor qkv = linear(norm(x, name + "norm1", kNormEps), name + "attn.qkv")
                               .view({batch, tokens, 3, kHeads, -1})
                               .permute({2, 0, 3, 1, 4});
    at::Tensor q = qkv[0];
    // The head reads the two leading tokens only, so the last block works out only those.
    if (index + 1 == kDepth) {
      q = q.slice(2, 0, kPrefixTokens);
      x = x.slice(1, 0, kPrefixTokens);
    }
    const at::Tensor mixed = at::scaled_dot_product_attention(q, qkv[1], qkv[2]);
    x = x + linear(mixed.transpose(1, 2).flatten(2), name + "attn.proj");
    const at::Tensor hidden = at::gelu(linear(norm(x, name + "norm2", kNormEps), name + "mlp.fc1"));
    return x + linear(hidden, name + "mlp.fc2");
  }

 private:
  const at::Tensor& get(const std::string& name) const { return parameters_.at(name); }

  const Inputs& parameters_;
};

}  // namespace

PasstResult passt_forward(const Inputs& parameters, const at::Tensor& mel, const at::Tensor& keep) {
  const Model model(parameters);
  at::Tensor x = model.tokens(mel, keep);
  for (int index = 0; index < kDepth; ++index) x = model.block(x, index);
  const at::Tensor features = model.norm(x, "norm", kNormEps).mean(1);
  return {model.linear(model.norm(features, "head.0", kHeadNormEps), "head.1"), features};
}

}  // namespace onpa::vs
