#include "nn/finetune.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tensor/autograd.h"
#include "tensor/flat_params.h"
#include "tensor/ops/math.h"
#include "tests/support/hash_fill.h"
#include "tests/support/scope_log.h"

namespace onpa::nn {
namespace {

using testing::hash_fill_parameters;
using testing::hash_tensor;

PasstConfig small() {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.depth = 12;
  return config;
}

// With 12 blocks, as timm's and BEiT's layer ids 0 .. 13.
TEST(LayerRate, FallsFromTheHeadToThePatches) {
  EXPECT_DOUBLE_EQ(layer_rate("patch_embed.proj.weight", 12, 0.75), std::pow(0.75, 13));
  for (const char* name : {"cls_token", "dist_token", "new_pos_embed", "freq_new_pos_embed",
                           "time_new_pos_embed", "patch_embed.proj.bias"}) {
    EXPECT_DOUBLE_EQ(layer_rate(name, 12, 0.75), std::pow(0.75, 13)) << name;
  }
  EXPECT_DOUBLE_EQ(layer_rate("blocks.0.norm1.weight", 12, 0.75), std::pow(0.75, 12));
  EXPECT_DOUBLE_EQ(layer_rate("blocks.1.norm1.weight", 12, 0.75), std::pow(0.75, 11));
  EXPECT_DOUBLE_EQ(layer_rate("blocks.11.mlp.fc2.bias", 12, 0.75), 0.75);
  EXPECT_DOUBLE_EQ(layer_rate("norm.weight", 12, 0.75, 5), 1);
  EXPECT_DOUBLE_EQ(layer_rate("head.1.weight", 12, 0.75, 5), 5);
  EXPECT_DOUBLE_EQ(layer_rate("head.0.bias", 12, 0.75), 1);
}

std::set<std::string> frozen_of(Passt& model, const std::string& what) {
  std::set<std::string> out;
  const std::int64_t count = freeze(model, what);
  std::int64_t values = 0;
  for (const NamedParameter& p : model.parameters()) {
    if (p.tensor.requires_grad()) continue;
    out.insert(p.name);
    values += p.tensor.numel();
  }
  EXPECT_EQ(values, count);
  return out;
}

TEST(Freeze, TakesNamesAndTheirBeginnings) {
  const auto frozen = [](const std::string& what) {
    Passt model(small());
    return frozen_of(model, what);
  };
  EXPECT_TRUE(frozen("none").empty());
  EXPECT_EQ(frozen("embed"),
            (std::set<std::string>{"cls_token", "dist_token", "new_pos_embed", "freq_new_pos_embed",
                                   "time_new_pos_embed", "patch_embed.proj.weight",
                                   "patch_embed.proj.bias"}));
  EXPECT_EQ(frozen("patch_embed, head.0").size(), 4u);
  const std::set<std::string> one = frozen("blocks.1");
  EXPECT_EQ(one.size(), 12u);  // of one block: not of blocks.10 and blocks.11
  EXPECT_TRUE(one.contains("blocks.1.attn.qkv.weight"));
  Passt model(small());
  const std::set<std::string> body = frozen_of(model, "body");
  EXPECT_EQ(body.size(), model.parameters().size() - 4);
  EXPECT_FALSE(body.contains("head.0.weight"));
  EXPECT_TRUE(body.contains("norm.weight"));
}

TEST(Freeze, NamesWhatIsNotThere) {
  Passt model(small());
  try {
    freeze(model, "blocks.0,block");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("begins with 'block'"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(freeze(model, "body,head"), Error);
}

// The gradients of what is not frozen are the same bits whatever is; below it nothing is done.
TEST(Freeze, EndsBackwardAboveWhatIsFrozen) {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.depth = 3;
  const auto gradients = [&](const std::string& what, Recompute level, double& flops) {
    Passt model(config);
    hash_fill_parameters(model);
    model.train();
    model.set_recompute(level);
    freeze(model, what);
    const Tensor loss =
        ops::sum(model.forward(hash_tensor({2, 32, 40}, "mel", 1), {.time = 1}, 3, 4).logits);
    testing::ScopeLog log;
    backward(loss);
    flops = 0;
    for (const auto& [name, total] : log.ops) flops += total.flops;
    std::map<std::string, std::vector<float>> out;
    for (const NamedParameter& p : model.parameters()) {
      EXPECT_EQ(p.tensor.grad().defined(), p.tensor.requires_grad()) << what << " " << p.name;
      if (p.tensor.grad().defined()) out[p.name] = p.tensor.grad().to_vector<float>();
    }
    return out;
  };
  for (const Recompute level : {Recompute::kNone, Recompute::kMlp, Recompute::kBlock}) {
    double all = 0, upper = 0, head = 0, middle = 0;
    const auto whole = gradients("none", level, all);
    const auto part = gradients("embed,blocks.0,blocks.1", level, upper);
    const auto only_head = gradients("body", level, head);
    gradients("blocks.1", level, middle);
    for (const auto& some : {part, only_head}) {
      ASSERT_FALSE(some.empty());
      for (const auto& [name, values] : some) EXPECT_EQ(values, whole.at(name)) << name;
    }
    EXPECT_LT(2 * upper, all);
    EXPECT_LT(10 * head, 3 * all);
    EXPECT_LE(middle, all);
    EXPECT_GT(middle, upper);
  }
}

}  // namespace
}  // namespace onpa::nn
