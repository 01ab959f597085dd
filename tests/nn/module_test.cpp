#include "nn/module.h"

#include <gtest/gtest.h>

#include "nn/linear.h"
#include "nn/transformer.h"

namespace onpa::nn {
namespace {

class Pair : public Module {
 public:
  Pair() : left(2, 3), right(3, 1), scale(add_parameter("scale", {5})) {
    add_module("left", left);
    add_module("right", right);
  }
  Linear left, right;
  Tensor& scale;
};

TEST(Module, NamesParametersInOrderWithDots) {
  Pair pair;
  std::vector<std::string> names;
  for (const NamedParameter& p : pair.parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{"scale", "left.weight", "left.bias", "right.weight",
                                             "right.bias"}));
  EXPECT_EQ(pair.parameter_count(), 5 + 6 + 3 + 3 + 1);
}

TEST(Module, ParametersAreLeavesThatWantGradients) {
  Pair pair;
  for (const NamedParameter& p : pair.parameters()) EXPECT_TRUE(p.tensor.requires_grad()) << p.name;
}

TEST(Module, SlotsAddressTheLiveParameters) {
  Pair pair;
  const auto slots = pair.parameter_slots();
  ASSERT_EQ(slots.size(), 5u);
  EXPECT_EQ(slots[0].second, &pair.scale);
  *slots[0].second = Tensor::full({5}, 7);
  EXPECT_EQ(pair.parameters()[0].tensor.data<float>()[4], 7);
}

TEST(Module, TrainingModeReachesChildrenAndStartsOff) {
  Block block(8, 2, 16);
  EXPECT_FALSE(block.training());
  Pair pair;
  EXPECT_FALSE(pair.right.training());
  pair.train();
  EXPECT_TRUE(pair.training() && pair.left.training() && pair.right.training());
  pair.train(false);
  EXPECT_FALSE(pair.training() || pair.left.training() || pair.right.training());
}

TEST(Module, BlockHasTheNamesOfPublishedFiles) {
  Block block(8, 2, 16);
  std::vector<std::string> names;
  for (const NamedParameter& p : block.parameters()) names.push_back(p.name);
  EXPECT_EQ(names, (std::vector<std::string>{"norm1.weight", "norm1.bias", "attn.qkv.weight",
                                             "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
                                             "norm2.weight", "norm2.bias", "mlp.fc1.weight",
                                             "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"}));
  EXPECT_EQ(block.parameter_count(), 4 * 8 * 8 + 4 * 8 + 2 * 8 * 16 + 16 + 8 + 4 * 8);
}

}  // namespace
}  // namespace onpa::nn
