#include "nn/adapt.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "nn/load.h"
#include "tensor/autograd.h"
#include "tests/support/gradcheck.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

using testing::hash_fill_parameter;
using testing::hash_fill_parameters;
using testing::hash_tensor;

// Sums of a few terms near 1, rounded once more than the golden ones.
constexpr double kRounding = 1e-6;

double difference(const Tensor& a, const Tensor& b) {
  return testing::difference(a, b).max_abs;
}

io::SafetensorsFile golden() {
  return io::read_safetensors(std::string(ONPA_GOLDEN_DIR) + "/adapt.safetensors");
}

io::NamedTensors tensors_of(const Module& module) {
  io::NamedTensors out;
  for (const NamedParameter& p : module.parameters()) out.emplace_back(p.name, p.tensor.detach());
  return out;
}

Tensor find(const io::NamedTensors& tensors, const std::string& name) {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  return {};
}

std::string listed(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : "; ") + text;
  return out;
}

std::string message_of(const std::function<void()>& work, ExitCode want) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), want) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

PasstConfig small() {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.depth = 5;
  config.outputs = 7;
  config.head_dist = true;
  return config;
}

TEST(ResizeTimeTable, IsTorchsInterpolation) {
  const io::SafetensorsFile want = golden();
  const Tensor table = hash_tensor({1, 5, 1, 7}, "time_new_pos_embed", 1);
  hash_fill_parameter(table, "time_new_pos_embed");
  for (const std::int64_t columns : {1, 4, 7, 12, 31}) {
    const Tensor got = resize_time_table(table, columns);
    ASSERT_EQ(got.shape(), (Shape{1, 5, 1, columns}));
    EXPECT_LT(difference(got, want.find("time_" + std::to_string(columns))), kRounding) << columns;
  }
}

TEST(ResizeBicubic, IsTorchsInterpolation) {
  const io::SafetensorsFile want = golden();
  const Tensor grid = hash_tensor({1, 3, 6, 7}, "grid", 1);
  for (const auto& [rows, columns] : {std::pair{1, 1}, {6, 7}, {4, 19}, {13, 2}}) {
    const Tensor got = resize_bicubic(grid, rows, columns);
    const std::string name = "grid_" + std::to_string(rows) + "_" + std::to_string(columns);
    ASSERT_EQ(got.shape(), (Shape{1, 3, rows, columns}));
    EXPECT_LT(difference(got, want.find(name)), kRounding) << name;
  }
}

TEST(AdaptWeights, KeepsEverythingThatFits) {
  Passt model(small());
  hash_fill_parameters(model);
  const Adapted same = adapt_weights(tensors_of(model), small(), small());
  EXPECT_TRUE(same.changes.empty()) << listed(same.changes);
  EXPECT_TRUE(same.initialized.empty());
  ASSERT_EQ(same.tensors.size(), model.parameters().size());
  for (const auto& [name, tensor] : same.tensors) {
    EXPECT_EQ(difference(tensor, find(tensors_of(model), name)), 0) << name;
  }
}

TEST(AdaptWeights, GivesAnotherNumberOfOutputsANewHead) {
  Passt model(small());
  hash_fill_parameters(model);
  PasstConfig want = small();
  want.outputs = 1;
  want.head_dist = false;
  const Adapted adapted = adapt_weights(tensors_of(model), small(), want);
  EXPECT_EQ(listed(adapted.changes), "a new head for 1 output instead of 7 (head.0 is kept)");
  EXPECT_EQ(listed(adapted.initialized), "head.1.weight; head.1.bias");
  EXPECT_FALSE(find(adapted.tensors, "head.1.weight").defined());
  EXPECT_FALSE(find(adapted.tensors, "head_dist.weight").defined());
  EXPECT_TRUE(find(adapted.tensors, "head.0.weight").defined());
  Passt other(want);
  EXPECT_EQ(load_parameters(other, adapted.tensors, false).missing, adapted.initialized);
}

TEST(AdaptWeights, CutsTheTimeTableOrStretchesIt) {
  Passt model(small());
  hash_fill_parameters(model);
  PasstConfig want = small();
  want.table_t = 11;
  const Tensor before = find(tensors_of(model), "time_new_pos_embed");
  const Adapted cut = adapt_weights(tensors_of(model), small(), want);
  const Tensor after = find(cut.tensors, "time_new_pos_embed");
  ASSERT_EQ(after.shape(), (Shape{1, 64, 1, 11}));
  for (int c = 0; c < 64; ++c) {
    for (int t = 0; t < 11; ++t) {
      ASSERT_EQ(after.data<float>()[c * 11 + t], before.data<float>()[c * 19 + t]);
    }
  }
  EXPECT_EQ(listed(cut.changes), "the first 11 of 19 columns of the time table");

  want.table_t = 40;
  const std::string message =
      message_of([&] { adapt_weights(tensors_of(model), small(), want); }, ExitCode::kConfig);
  EXPECT_NE(message.find("19 columns, model.table_t is 40"), std::string::npos) << message;
  EXPECT_NE(message.find("interpolate"), std::string::npos) << message;
  const Adapted longer =
      adapt_weights(tensors_of(model), small(), want, {.interpolate_table = true});
  EXPECT_EQ(difference(find(longer.tensors, "time_new_pos_embed"), resize_time_table(before, 40)),
            0);
}

// What PaSST-L does with twelve blocks, on five: 0, 1, 3, 4.
TEST(AdaptWeights, KeepsEverySecondBlock) {
  EXPECT_EQ(kept_blocks(12), (std::vector<std::int64_t>{0, 1, 3, 5, 7, 9, 11}));
  EXPECT_EQ(kept_blocks(1), (std::vector<std::int64_t>{0}));
  EXPECT_EQ(kept_blocks(2), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(kept_blocks(3), (std::vector<std::int64_t>{0, 1, 2}));
  Passt model(small());
  hash_fill_parameters(model);
  PasstConfig want = small();
  want.depth = 4;
  const Adapted adapted = adapt_weights(tensors_of(model), small(), want);
  int block = 0;
  for (const int from : {0, 1, 3, 4}) {
    const std::string name = ".attn.qkv.weight";
    EXPECT_EQ(difference(find(adapted.tensors, "blocks." + std::to_string(block++) + name),
                         find(tensors_of(model), "blocks." + std::to_string(from) + name)),
              0);
  }
  EXPECT_FALSE(find(adapted.tensors, "blocks.4.norm1.weight").defined());
  want.depth = 3;
  const std::string message =
      message_of([&] { adapt_weights(tensors_of(model), small(), want); }, ExitCode::kConfig);
  EXPECT_NE(message.find("5 blocks, model.depth is 3: want 5, or 4"), std::string::npos) << message;
}

TEST(AdaptWeights, NamesWhatNoRuleChanges) {
  Passt model(small());
  hash_fill_parameters(model);
  PasstConfig want = small();
  want.stride_t = 4;
  const std::string message =
      message_of([&] { adapt_weights(tensors_of(model), small(), want); }, ExitCode::kConfig);
  EXPECT_NE(message.find("model.stride_t is 4, the weights have 5"), std::string::npos) << message;
}

TEST(AdaptWeights, NamesAMissingAndAStrangeTensor) {
  Passt model(small());
  hash_fill_parameters(model);
  PasstConfig want = small();
  want.outputs = 1;
  io::NamedTensors tensors = tensors_of(model);
  std::erase_if(tensors, [](const auto& entry) { return entry.first == "head.0.bias"; });
  EXPECT_NE(message_of([&] { adapt_weights(tensors, small(), want); }, ExitCode::kBadCheckpoint)
                .find("no tensor head.0.bias"),
            std::string::npos);
  tensors = tensors_of(model);
  tensors.emplace_back("momentum", Tensor::zeros({2}));
  EXPECT_NE(message_of([&] { adapt_weights(tensors, small(), want); }, ExitCode::kBadCheckpoint)
                .find("momentum is none of a PaSST's"),
            std::string::npos);
  tensors = tensors_of(model);
  for (auto& [name, tensor] : tensors) {
    if (name == "blocks.3.mlp.fc2.bias") tensor = Tensor::zeros({63});
  }
  EXPECT_NE(message_of([&] { adapt_weights(tensors, small(), want); }, ExitCode::kBadCheckpoint)
                .find("blocks.3.mlp.fc2.bias has shape"),
            std::string::npos);
}

// As the golden script has them.
io::NamedTensors deit_weights() {
  std::vector<std::pair<std::string, Shape>> shapes = {
      {"cls_token", {1, 1, 64}},
      {"dist_token", {1, 1, 64}},
      {"pos_embed", {1, 38, 64}},
      {"patch_embed.proj.weight", {64, 3, 16, 16}},
      {"patch_embed.proj.bias", {64}},
      {"norm.weight", {64}},
      {"norm.bias", {64}},
      {"head.weight", {10, 64}},
      {"head.bias", {10}},
      {"head_dist.weight", {10, 64}},
      {"head_dist.bias", {10}},
  };
  for (int i = 0; i < 3; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    for (const char* norm : {"norm1", "norm2"}) {
      shapes.emplace_back(block + norm + ".weight", Shape{64});
      shapes.emplace_back(block + norm + ".bias", Shape{64});
    }
    shapes.emplace_back(block + "attn.qkv.weight", Shape{192, 64});
    shapes.emplace_back(block + "attn.qkv.bias", Shape{192});
    shapes.emplace_back(block + "attn.proj.weight", Shape{64, 64});
    shapes.emplace_back(block + "attn.proj.bias", Shape{64});
    shapes.emplace_back(block + "mlp.fc1.weight", Shape{256, 64});
    shapes.emplace_back(block + "mlp.fc1.bias", Shape{256});
    shapes.emplace_back(block + "mlp.fc2.weight", Shape{64, 256});
    shapes.emplace_back(block + "mlp.fc2.bias", Shape{64});
  }
  io::NamedTensors out;
  for (const auto& [name, shape] : shapes) {
    out.emplace_back(name, Tensor::empty(shape));
    hash_fill_parameter(out.back().second, name);
  }
  return out;
}

PasstConfig image_start() {
  PasstConfig base;
  base.mels = 64;
  base.stride_f = base.stride_t = 16;
  base.table_t = 11;
  base.outputs = 5;
  base.head_dist = false;
  return deit_config(deit_weights(), base);
}

TEST(AdaptDeit, IsThePublicPackagesStart) {
  ASSERT_TRUE(is_deit(deit_weights()));
  const PasstConfig config = image_start();
  EXPECT_EQ(config.width, 64);
  EXPECT_EQ(config.heads, 1);
  EXPECT_EQ(config.depth, 3);
  EXPECT_EQ(config.mlp, 256);
  const Adapted adapted = adapt_deit(deit_weights(), config);
  EXPECT_EQ(listed(adapted.initialized), "head.0.weight; head.0.bias; head.1.weight; head.1.bias");
  const io::SafetensorsFile want = golden();
  for (const char* name : {"new_pos_embed", "freq_new_pos_embed", "time_new_pos_embed"}) {
    EXPECT_LT(difference(find(adapted.tensors, name), want.find(name)), kRounding) << name;
  }
  EXPECT_LT(difference(find(adapted.tensors, "patch_embed.proj.weight"), want.find("patch")),
            kRounding);

  Passt model(config);
  model.initialize(1);
  ASSERT_EQ(load_parameters(model, adapted.tensors, false).missing, adapted.initialized);
  const NoGrad no_grad;
  const Tensor features = model.forward(hash_tensor({2, 64, 176}, "mel", 1.5f)).features;
  EXPECT_LT(difference(features, want.find("features")), 1e-4);
}

TEST(AdaptDeit, TellsADeitFromAPasst) {
  Passt model(small());
  hash_fill_parameters(model);
  EXPECT_FALSE(is_deit(tensors_of(model)));
  io::NamedTensors tensors = deit_weights();
  for (auto& [name, tensor] : tensors) {
    if (name == "pos_embed") tensor = Tensor::zeros({1, 37, 64});
  }
  EXPECT_NE(message_of([&] { deit_config(tensors, PasstConfig()); }, ExitCode::kBadCheckpoint)
                .find("pos_embed has shape"),
            std::string::npos);
}

}  // namespace
}  // namespace onpa::nn
