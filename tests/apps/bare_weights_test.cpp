// Prediction from a safetensors file that holds PaSST's tensors and no metadata.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "nn/passt.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/train_support.h"
#include "tests/support/hash_fill.h"

namespace onpa::testing {
namespace {

class BareWeights : public ::testing::Test {
 protected:
  BareWeights() {
    nn::PasstConfig config;
    config.width = 64;  // one head of the published width
    config.heads = 1;
    config.depth = 2;
    config.mlp = 256;
    config.outputs = 3;
    nn::Passt model(config);
    hash_fill_parameters(model);
    for (const auto& p : model.parameters()) tensors_.emplace_back(p.name, p.tensor.detach());
    audio_data(folder_ / "audio", 1);
  }
  CommandResult predict(const io::NamedTensors& tensors) {
    io::write_safetensors(folder_ / "bare.safetensors", tensors);
    return run_command({"predict", "--model", (folder_ / "bare.safetensors").string(), "--json",
                        (folder_ / "audio" / "track0.mp3").string()});
  }

  TempFolder folder_;
  io::NamedTensors tensors_;
};

TEST_F(BareWeights, GiveOneLogitAClass) {
  const CommandResult result = predict(tensors_);
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("logits").size(), 3u);
  EXPECT_EQ(json.at("prediction"), json.at("logits"));
}

TEST_F(BareWeights, MismatchIs83AndNamesFileTensorAndBothShapes) {
  for (auto& [name, tensor] : tensors_) {
    if (name == "blocks.1.mlp.fc2.weight") tensor = Tensor::zeros({64, 255});
  }
  const CommandResult result = predict(tensors_);
  EXPECT_EQ(result.code, 83);
  for (const char* part :
       {"bare.safetensors", "blocks.1.mlp.fc2.weight", "(64, 255)", "(64, 256)"}) {
    EXPECT_NE(result.err.find(part), std::string::npos) << part << " in " << result.err;
  }
}

TEST_F(BareWeights, MissingTensorIs83AndNamed) {
  std::erase_if(tensors_, [](const auto& entry) { return entry.first == "dist_token"; });
  const CommandResult result = predict(tensors_);
  EXPECT_EQ(result.code, 83);
  EXPECT_NE(result.err.find("dist_token"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace onpa::testing
