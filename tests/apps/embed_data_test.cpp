// A data set's audio as features of a model, and a Dense that learns from them.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/dataset.h"
#include "nn/passt.h"
#include "tensor/io/npy.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/train_support.h"
#include "tests/support/hash_fill.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class EmbedData : public ::testing::Test {
 protected:
  EmbedData() {
    nn::PasstConfig config;
    config.width = 64;
    config.heads = 1;
    config.depth = 2;
    config.mlp = 96;
    config.outputs = 3;
    nn::Passt model(config);
    hash_fill_parameters(model);
    io::NamedTensors tensors;
    for (const auto& p : model.parameters()) tensors.emplace_back(p.name, p.tensor.detach());
    io::write_safetensors(folder_ / "bare.safetensors", tensors);
    data::DataSet data = audio_data(folder_ / "audio", 20);
    write_bytes(folder_ / "audio" / "track7.mp3", "gone bad");
    data.tracks[9].audio.clear();
    data.map_targets({.low = 10, .high = 90});
    data.save(folder_ / "data");
  }
  CommandResult embed(const std::string& out) {
    return run_command({"embed", "--model", (folder_ / "bare.safetensors").string(), "--data",
                        (folder_ / "data").string(), "--out", (folder_ / out).string()});
  }
  TempFolder folder_;
};

TEST_F(EmbedData, TracksKeepAllButTheirFeatures) {
  const CommandResult result = embed("features");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("left out 2"), std::string::npos) << result.err;
  const data::DataSet before = data::DataSet::load(folder_ / "data");
  const data::DataSet after = data::DataSet::load(folder_ / "features");
  ASSERT_EQ(after.tracks.size(), 18u);
  ASSERT_EQ(after.feature_names.size(), 64u);
  EXPECT_EQ(after.feature_names[5], "f005");
  EXPECT_EQ(nlohmann::json::parse(after.card)["embedded"]["left_out"], 2);
  EXPECT_EQ(after.target_map, before.target_map);
  std::size_t i = 0;
  for (const data::Track& track : before.tracks) {
    if (track.id == "track7" || track.id == "track9") continue;
    const data::Track& got = after.tracks[i++];
    EXPECT_EQ(got.id, track.id);
    EXPECT_EQ(got.split, track.split);
    EXPECT_EQ(got.target, track.target);
    EXPECT_EQ(got.genre, track.genre);
  }

  // As of the file alone.
  const fs::path npy = folder_ / "one.npy";
  ASSERT_EQ(run_command({"embed", "--model", (folder_ / "bare.safetensors").string(),
                         (folder_ / "audio" / "track3.mp3").string(), "--out", npy.string()})
                .code,
            0);
  const std::vector<float> one = io::read_npy(npy).to_vector<float>();
  ASSERT_EQ(after.tracks[3].id, "track3");
  for (std::size_t f = 0; f < one.size(); ++f) {
    EXPECT_NEAR(after.tracks[3].features[f], one[f], 1e-5) << f;
  }
}

TEST_F(EmbedData, ADenseLearnsFromThem) {
  ASSERT_EQ(embed("features").code, 0);
  const CommandResult result = run_command(train_args(
      "dense", folder_ / "features", folder_ / "run", {"train.epochs=2", "model.hidden=[8]"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "run" / "checkpoints" / "last"));
}

TEST_F(EmbedData, TheDataSetItselfIsNotReplaced) {
  const std::string before = read_bytes(folder_ / "data" / "tracks.csv");
  EXPECT_EQ(embed("data").code, 64);
  EXPECT_EQ(read_bytes(folder_ / "data" / "tracks.csv"), before);
}

// Audio that cannot be read would be 65: the place is looked at before the work.
TEST_F(EmbedData, APlaceThatWillNotDoIsFoundOutFirst) {
  for (int i = 0; i < 20; ++i) {
    write_bytes(folder_ / "audio" / ("track" + std::to_string(i) + ".mp3"), "gone bad");
  }
  write_bytes(folder_ / "file", "text");
  for (const char* out : {"file", "file/below"}) EXPECT_EQ(embed(out).code, 73) << out;
  EXPECT_EQ(read_bytes(folder_ / "file"), "text");
  EXPECT_EQ(embed("/proc/here").code, 73);

  fs::create_directory(folder_ / "other");
  const std::string tracks = read_bytes(folder_ / "data" / "tracks.csv");
  for (const char* file : {"tracks.csv", "card.json"}) {
    fs::copy_file(folder_ / "data" / file, folder_ / "other" / file);
    const CommandResult taken = embed("other");
    EXPECT_EQ(taken.code, 78) << taken.err;
    EXPECT_NE(taken.err.find("other: holds "), std::string::npos) << taken.err;
    EXPECT_EQ(read_bytes(folder_ / "other" / "tracks.csv"), tracks);
  }
}

TEST_F(EmbedData, ItsOwnResultIsReplaced) {
  ASSERT_EQ(embed("features").code, 0);
  write_bytes(folder_ / "audio" / "track3.mp3", "gone bad");
  ASSERT_EQ(embed("features").code, 0);
  EXPECT_EQ(data::DataSet::load(folder_ / "features").tracks.size(), 17u);
}

TEST_F(EmbedData, NothingToReadIs65) {
  for (int i = 0; i < 20; ++i) {
    write_bytes(folder_ / "audio" / ("track" + std::to_string(i) + ".mp3"), "gone bad");
  }
  EXPECT_EQ(embed("features").code, 65);
  EXPECT_FALSE(fs::exists(folder_ / "features" / "tracks.csv"));
}

}  // namespace
}  // namespace onpa::testing
