#include "nn/passt_io.h"

#include <gtest/gtest.h>

namespace onpa::nn {
namespace {

std::map<std::string, Shape> shapes_of(const PasstConfig& config) {
  std::map<std::string, Shape> shapes;
  for (const NamedParameter& p : Passt(config).parameters()) shapes[p.name] = p.tensor.shape();
  return shapes;
}

std::string message_of(const std::map<std::string, Shape>& shapes,
                       const std::map<std::string, std::string>& metadata = {}) {
  try {
    infer_passt_config(shapes, metadata);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint);
    return error.what();
  }
  return "";
}

// The tables of the published files: stride, input frames.
TEST(PasstIo, InfersPublishedArchitecturesFromShapes) {
  const std::pair<std::int64_t, std::int64_t> published[] = {
      {10, 998}, {12, 998}, {14, 998}, {16, 998}, {10, 2000}, {10, 3000}, {10, 3200}};
  for (const auto& [stride, frames] : published) {
    PasstConfig config = PasstConfig::preset(stride == 14 ? "passt-l" : "passt-s");
    config.stride_f = config.stride_t = stride;
    config.table_t = frames / stride;
    config.outputs = 50;
    const PasstConfig got = infer_passt_config(shapes_of(config));
    EXPECT_EQ(passt_metadata(got), passt_metadata(config)) << "stride " << stride;
  }
}

TEST(PasstIo, MetadataRestoresAnArchitectureThatShapesDoNotSay) {
  const PasstConfig config = PasstConfig::preset("passt-xs");
  const PasstConfig got = infer_passt_config(shapes_of(config), passt_metadata(config));
  EXPECT_EQ(passt_metadata(got), passt_metadata(config));
  EXPECT_EQ(got.heads, 4);
  EXPECT_EQ(got.mels, 32);
  EXPECT_FALSE(got.head_dist);
}

TEST(PasstIo, SaysWhichStrideFitsBeforeItGuesses) {
  PasstConfig config;
  config.stride_f = config.stride_t = 13;
  config.table_t = 40;  // neither 13 nor 14 makes this of a published length
  EXPECT_NE(message_of(shapes_of(config)).find("2 strides fit"), std::string::npos);
  EXPECT_EQ(
      infer_passt_config(shapes_of(config), {{"passt.stride_f", "13"}, {"passt.stride_t", "13"}})
          .stride_t,
      13);
}

TEST(PasstIo, RejectsWhatTheShapesContradict) {
  const PasstConfig config = PasstConfig::preset("passt-xs");
  const auto shapes = shapes_of(config);
  const auto with = [&](const std::string& key, const std::string& value) {
    auto metadata = passt_metadata(config);
    metadata[key] = value;
    return message_of(shapes, metadata);
  };
  EXPECT_EQ(with("passt.width", "9223372036854775807").find("passt: "), 0u);
  EXPECT_NE(with("passt.mels", "64").find("freq_new_pos_embed"), std::string::npos);
  EXPECT_NE(with("passt.depth", "3").find("2 blocks, want 3"), std::string::npos);
  EXPECT_NE(with("passt.mlp", "128").find("blocks.0.mlp.fc1.weight"), std::string::npos);
  EXPECT_NE(with("passt.heads", "3").find("heads is 3"), std::string::npos);
  EXPECT_NE(with("passt.heads", "4x").find("'4x'"), std::string::npos);
  EXPECT_NE(with("passt.stride_f", "0").find("stride_f is 0"), std::string::npos);
  EXPECT_NE(with("passt.stride_f", "-5"), "");
}

TEST(PasstIo, NamesTheTensorThatIsMissingOrMisshapen) {
  auto shapes = shapes_of(PasstConfig::preset("passt-l"));
  shapes.erase("time_new_pos_embed");
  EXPECT_NE(message_of(shapes).find("no tensor time_new_pos_embed"), std::string::npos);
  shapes = shapes_of(PasstConfig::preset("passt-l"));
  shapes["cls_token"] = Shape{768};
  EXPECT_NE(message_of(shapes).find("cls_token has shape (768), want 3 axes"), std::string::npos);
  shapes = shapes_of(PasstConfig::preset("passt-l"));
  shapes["head.1.weight"] = Shape{527, 700};
  EXPECT_NE(message_of(shapes).find("head.1.weight"), std::string::npos);
  EXPECT_NE(message_of({}), "");
}

}  // namespace
}  // namespace onpa::nn
