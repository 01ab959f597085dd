// Runs that start from given weights, and what of them learns.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "nn/adapt.h"
#include "nn/passt.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/ranks_support.h"
#include "tests/apps/train_support.h"
#include "tests/support/hash_fill.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

using Weights = std::map<std::string, std::vector<float>>;

Weights read(const fs::path& file) {
  Weights out;
  for (const auto& [name, tensor] : io::read_safetensors(file).tensors) {
    out[name] = tensor.to_vector<float>();
  }
  return out;
}

class InitFrom : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    audio_data(*folder_ / "audio", 20).save(*folder_ / "data");
    write_published();
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static fs::path path(const std::string& name) { return *folder_ / name; }

  // As published: no metadata, 7 classes, heads 64 wide.
  static nn::PasstConfig published() {
    nn::PasstConfig config;
    config.width = 64;
    config.heads = 1;
    config.depth = 5;
    config.mlp = 96;
    config.outputs = 7;
    return config;
  }
  static void write_published() {
    nn::Passt model(published());
    hash_fill_parameters(model);
    io::NamedTensors tensors;
    for (const auto& p : model.parameters()) tensors.emplace_back(p.name, p.tensor.detach());
    io::write_safetensors(path("published.safetensors"), tensors);
  }

  // 16 clips of half a second in batches of 4.
  static CommandResult train(const std::string& run, const std::string& weights,
                             const std::vector<std::string>& more) {
    std::vector<std::string> set = {"data.seconds=0.5", "train.batch_size=4", "train.eval_epochs=0",
                                    "train.checkpoint_epochs=0", "loader.decode_process=false"};
    for (const char* off :
         {"train.patchout_time", "train.patchout_freq", "mel.freq_mask", "mel.time_mask"}) {
      set.push_back(std::string(off) + "=0");
    }
    set.insert(set.end(), more.begin(), more.end());
    auto args = train_args("passt", path("data"), path(run), set);
    args.insert(args.end(), {"--init-from", path(weights).string(), "--device", "cpu"});
    return run_command(args);
  }
  // Such a run of one step that changes nothing.
  static CommandResult start(const std::string& run, const std::string& weights,
                             std::vector<std::string> more = {}) {
    more.insert(more.end(), {"train.max_steps=1", "train.lr=0"});
    return train(run, weights, more);
  }
  static Weights weights_of(const std::string& run, const std::string& file = "model") {
    return read(path(run) / "checkpoints" / "last" / (file + ".safetensors"));
  }
  static std::string settings_of(const std::string& run) {
    return read_bytes(path(run) / "config.resolved.toml");
  }
  static void expect_refused(const std::string& weights, const std::vector<std::string>& set,
                             const std::vector<std::string>& parts) {
    const CommandResult result = start("refused", weights, set);
    EXPECT_EQ(result.code, 78) << result.err;
    for (const std::string& part : parts) {
      EXPECT_NE(result.err.find(part), std::string::npos) << part << " in " << result.err;
    }
  }

  // A study of one step a model on all data, in the folder "st".
  static CommandResult study(const std::vector<std::string>& more,
                             const std::string& models = "passt,dense") {
    std::vector<std::string> args = {"study",    "--data",   path("data"), "--out", path("st"),
                                     "--genres", "none",     "--device",   "cpu",   "--draws",
                                     "100",      "--models", models};
    for (const char* set :
         {"data.seconds=0.5", "train.batch_size=4", "train.max_steps=1", "train.lr=0",
          "train.patchout_time=0", "train.patchout_freq=0", "mel.freq_mask=0", "mel.time_mask=0"}) {
      args.insert(args.end(), {"--set-passt", set});
    }
    for (const char* set : {"model.hidden=[4]", "train.max_steps=1", "train.batch_size=4"}) {
      args.insert(args.end(), {"--set-dense", set});
    }
    args.insert(args.end(), more.begin(), more.end());
    return run_command(args);
  }

  inline static std::unique_ptr<TempFolder> folder_;
};

TEST_F(InitFrom, TakesArchitectureAndFrontEndOfAPublishedFile) {
  const CommandResult result = start("bare", "published.safetensors");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("5 blocks of width 64, strides 10 and 10, 99 columns of time, hop 320, "
                            "patchout 0 and 0; "
                            "a new head for 1 output instead of 7 (head.0 is kept)"),
            std::string::npos)
      << result.err;
  for (const char* line : {"width = 64\n", "depth = 5\n", "mlp = 96\n", "heads = 1\n"}) {
    EXPECT_NE(settings_of("bare").find(line), std::string::npos) << line;
  }
  const Weights given = read(path("published.safetensors")), got = weights_of("bare");
  EXPECT_EQ(got.at("head.1.weight").size(), 64u);
  for (const auto& [name, values] : got) {
    if (name.starts_with("head.1.")) continue;
    EXPECT_EQ(values, given.at(name)) << name;
  }
  EXPECT_FALSE(got.contains("head_dist.weight"));
}

TEST_F(InitFrom, WhatTheWeightsContradictIsRefusedByName) {
  const std::string file = "published.safetensors";
  expect_refused(file, {"model.stride_t=12"},
                 {"model.stride_t is 12, the weights have 10", "leave model.stride_t out", file});
  expect_refused(file, {"mel.hop_samples=160"}, {"mel.hop_samples is 160, the weights have 320"});
  expect_refused(file, {"model.preset=passt-s"},
                 {"(of model.preset=passt-s) is 12, the weights have 5", "or take 4"});
  expect_refused(file, {"model.depth=3"}, {"model.depth is 3, the weights have 5", "or take 4"});
  expect_refused(file, {"model.table_t=120"},
                 {"99 columns, model.table_t is 120", "model.time_table=interpolate"});
  EXPECT_FALSE(fs::exists(path("refused") / "config.resolved.toml"));
}

TEST_F(InitFrom, ShallowerAndShorterOnRequest) {
  const CommandResult result =
      start("small", "published.safetensors", {"model.depth=4", "model.table_t=20"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Weights given = read(path("published.safetensors")), got = weights_of("small");
  EXPECT_EQ(got.at("blocks.2.mlp.fc1.weight"), given.at("blocks.3.mlp.fc1.weight"));
  EXPECT_EQ(got.at("time_new_pos_embed").size(), 64u * 20);
  EXPECT_NE(result.err.find("4 of 5 blocks"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("the first 20 of 99 columns"), std::string::npos) << result.err;
}

// Sizes that only metadata tells, the clip length, and the averaged weights; the head fits.
TEST_F(InitFrom, TakesTheAveragedWeightsOfARun) {
  ASSERT_EQ(run_command(train_args("passt", path("data"), path("first"),
                                   {"model.preset=passt-xs", "data.seconds=0.4", "train.epochs=1",
                                    "train.patchout_time=1", "average.kind=ema",
                                    "average.ema_decay=0.5", "optim.kind=sgd"}))
                .code,
            0);
  auto args =
      train_args("passt", path("data"), path("second"), {"train.max_steps=1", "train.lr=0"});
  args.insert(args.end(), {"--init-from", path("first").string(), "--device", "cpu"});
  // The defaults of passt-xs, and its patchout, come with the weights.
  args.insert(args.end(), {"--set", "train.patchout_time=1"});
  const CommandResult result = run_command(args);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(weights_of("second"), weights_of("first", "swa"));
  EXPECT_NE(weights_of("second"), weights_of("first"));
  EXPECT_NE(settings_of("second").find("seconds = 0.4\n"), std::string::npos);
  EXPECT_NE(settings_of("second").find("preset = \"passt-xs\"\n"), std::string::npos);

  // Longer clips than its time table: the rest is cut, or the table is stretched.
  const CommandResult cut = start("cut", "first", {"data.seconds=1.5"});
  ASSERT_EQ(cut.code, 0) << cut.err;
  EXPECT_NE(cut.err.find("the rest is cut"), std::string::npos) << cut.err;
  EXPECT_EQ(weights_of("cut").at("time_new_pos_embed").size(), 64u * 19);
  const CommandResult stretched =
      start("stretched", "first", {"data.seconds=1.5", "model.time_table=interpolate"});
  ASSERT_EQ(stretched.code, 0) << stretched.err;
  EXPECT_NE(stretched.err.find("time table interpolated from 19 to 29 columns"), std::string::npos)
      << stretched.err;
  const Tensor table = io::read_safetensors(path("first/checkpoints/last/swa.safetensors"))
                           .find("time_new_pos_embed");
  EXPECT_EQ(weights_of("stretched").at("time_new_pos_embed"),
            nn::resize_time_table(table, 29).to_vector<float>());
}

TEST_F(InitFrom, StartsFromAnImageTransformer) {
  io::NamedTensors tensors;
  for (auto& [name, tensor] : io::read_safetensors(path("published.safetensors")).tensors) {
    if (name.starts_with("head") || name.ends_with("_pos_embed")) continue;
    if (name == "patch_embed.proj.weight") {
      tensors.emplace_back(name, hash_tensor({64, 3, 16, 16}, name, 0.05f));
    } else {
      tensors.emplace_back(name, tensor);
    }
  }
  tensors.emplace_back("pos_embed", hash_tensor({1, 2 + 36, 64}, "pos_embed", 0.5f));
  tensors.emplace_back("head.weight", hash_tensor({10, 64}, "head", 0.1f));
  tensors.emplace_back("head.bias", hash_tensor({10}, "bias", 0.1f));
  io::write_safetensors(path("deit.safetensors"), tensors);
  const CommandResult result = start("image", "deit.safetensors", {"model.stride_t=16"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("positions of 6 x 6 image patches resized to 12 x 99"),
            std::string::npos)
      << result.err;
  const Weights got = weights_of("image");
  EXPECT_EQ(got.at("freq_new_pos_embed").size(), 64u * 12);
  EXPECT_EQ(got.at("blocks.4.norm2.weight"),
            read(path("deit.safetensors")).at("blocks.4.norm2.weight"));
  EXPECT_EQ(got.at("head.0.weight"), std::vector<float>(64, 1));
}

// Layers at rates of their own, some of them frozen; stopped, resumed without the file.
TEST_F(InitFrom, ResumedHasTheSameBitsAndKeepsWhatIsFrozen) {
  const std::vector<std::string> set = {
      "train.epochs=2",        "optim.layer_decay=0.7", "train.freeze=embed,blocks.1",
      "optim.head_lr_scale=3", "train.lr=1e-3",         "average.kind=ema",
      "train.recompute=mlp"};
  fs::copy_file(path("published.safetensors"), path("moved.safetensors"));
  ASSERT_EQ(train("whole", "moved.safetensors", set).code, 0);
  std::vector<std::string> part = set;
  part.push_back("train.max_steps=3");
  ASSERT_EQ(train("part", "moved.safetensors", part).code, 0);
  fs::remove(path("moved.safetensors"));
  const CommandResult resumed = train("part", "moved.safetensors", set);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  for (const char* file : {"model", "optim", "swa"}) {
    EXPECT_EQ(weights_of("part", file), weights_of("whole", file)) << file;
  }
  const Weights given = read(path("published.safetensors")), got = weights_of("whole");
  std::set<std::string> same;
  for (const auto& [name, values] : got) {
    if (given.contains(name) && given.at(name) == values) same.insert(name);
  }
  EXPECT_EQ(same.size(), 7u + 12u);
  const Weights moments = weights_of("whole", "optim");
  EXPECT_EQ(moments.size(), 2 * (got.size() - same.size()));
  for (const std::string& name : same) EXPECT_FALSE(moments.contains("v." + name)) << name;
  EXPECT_TRUE(same.contains("blocks.1.mlp.fc1.weight"));
  EXPECT_TRUE(same.contains("patch_embed.proj.weight"));
}

// The head alone first, then all: what was frozen has no moments to go on from.
TEST_F(InitFrom, AFrozenPartLearnsLater) {
  const std::vector<std::string> frozen = {"train.epochs=1", "train.freeze=body"};
  ASSERT_EQ(train("run", "published.safetensors", frozen).code, 0);
  const Weights first = weights_of("run");
  EXPECT_EQ(weights_of("run", "optim").size(), 2u * 4);  // of the head's two layers
  const CommandResult all = train("run", "published.safetensors", {"train.epochs=2"});
  ASSERT_EQ(all.code, 0) << all.err;
  EXPECT_NE(all.err.find("settings changed since the checkpoint: train.epochs, train.freeze"),
            std::string::npos)
      << all.err;
  EXPECT_EQ(weights_of("run", "optim").size(), 2 * first.size());
  EXPECT_NE(weights_of("run").at("blocks.1.mlp.fc1.weight"), first.at("blocks.1.mlp.fc1.weight"));
}

TEST_F(InitFrom, UnknownPartsToFreezeAre78) {
  const CommandResult result = start("frozen", "published.safetensors", {"train.freeze=blocks.7"});
  EXPECT_EQ(result.code, 78) << result.err;
  EXPECT_NE(result.err.find("no parameter begins with 'blocks.7'"), std::string::npos)
      << result.err;
}

TEST_F(InitFrom, ADenseDoesNotStartFromAPasst) {
  ASSERT_EQ(start("some", "published.safetensors").code, 0);
  feature_data(40).save(path("rows"));
  auto args = train_args("dense", path("rows"), path("dense"), {"train.max_steps=1"});
  args.insert(args.end(), {"--init-from", path("some").string()});
  const CommandResult result = run_command(args);
  EXPECT_EQ(result.code, 78) << result.err;
  EXPECT_NE(result.err.find("holds a passt, want a dense"), std::string::npos) << result.err;
  args.back() = path("published.safetensors").string();
  const CommandResult bare = run_command(args);
  EXPECT_EQ(bare.code, 78) << bare.err;
  EXPECT_NE(bare.err.find("published.safetensors: holds a passt, want a dense"), std::string::npos)
      << bare.err;
}

// The study's PaSST starts from weights whose architecture nobody wrote down, and its Dense does
// not; what is there is not gone on with from other weights.
TEST_F(InitFrom, AStudyStartsItsPasst) {
  const std::string published = path("published.safetensors").string();
  const CommandResult result = study({"--init-from", published});
  ASSERT_EQ(result.code, 0) << result.err;
  const Weights given = read(path("published.safetensors"));
  const Weights got = read(path("st") / "runs/all-data/passt/checkpoints/last/model.safetensors");
  for (const auto& [name, values] : got) {
    if (name.starts_with("head.1.")) continue;
    EXPECT_EQ(values, given.at(name)) << name;
  }
  const std::string report = read_bytes(path("st") / "report.html");
  EXPECT_NE(report.find("PaSST started from the weights of " + published), std::string::npos);
  const CommandResult again = study({"--init-from", published});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.err.find("trained in"), std::string::npos) << again.err;

  io::SafetensorsFile other = io::read_safetensors(published);
  other.find("cls_token").data<float>()[0] += 1;
  io::write_safetensors(path("other.safetensors"), other.tensors);
  const CommandResult refused = study({"--init-from", path("other.safetensors").string()});
  EXPECT_EQ(refused.code, 78);
  EXPECT_NE(refused.err.find("passt, all data: trained already with other settings"),
            std::string::npos)
      << refused.err;
  EXPECT_NE(refused.err.find(": --init-from;"), std::string::npos) << refused.err;
  // What the model began with is known whatever was asked for in between.
  EXPECT_EQ(study({}, "dense").code, 0);
  EXPECT_EQ(study({"--init-from", published}).code, 0);
  EXPECT_EQ(study({"--init-from", published, "--set-passt", "model.depth=4"}).code, 78);
  EXPECT_EQ(study({"--init-from", published}, "dense").code, 78);
  EXPECT_EQ(study({"--init-from", path("none.pt").string()}).code, 66);
}

// A model that was trained beforehand, on more machines than a study has.
TEST_F(InitFrom, AStudyTakesAModelThatWasTrainedFromTheSameWeights) {
  fs::remove_all(path("st"));
  ASSERT_EQ(start("st/runs/all-data/passt", "published.safetensors", {"train.batch_size=4"}).code,
            0);
  const std::string published = path("published.safetensors").string();
  const std::vector<std::string> same = {"--set-passt", "train.eval_epochs=0",
                                         "--set-passt", "train.checkpoint_epochs=0",
                                         "--set-passt", "loader.decode_process=false"};
  const CommandResult scratch = study(same, "passt");
  EXPECT_EQ(scratch.code, 78) << scratch.err;
  std::vector<std::string> more = same;
  more.insert(more.end(), {"--init-from", published});
  const CommandResult result = study(more, "passt");
  EXPECT_EQ(result.code, 0) << result.err;
}

TEST_F(InitFrom, WeightsThatAreNotFiniteAreRefused) {
  io::SafetensorsFile broken = io::read_safetensors(path("published.safetensors"));
  broken.find("norm.bias").data<float>()[3] = NAN;
  io::write_safetensors(path("broken.safetensors"), broken.tensors);
  const CommandResult result = start("broken", "broken.safetensors");
  EXPECT_EQ(result.code, 83) << result.err;
  EXPECT_NE(result.err.find("tensor norm.bias holds NaN or infinity"), std::string::npos)
      << result.err;
}

// Of two sets in a file the averaged weights, or those that are asked for.
TEST_F(InitFrom, TheSetOfWeightsCanBeChosen) {
  const std::string lightning = (fs::path(ONPA_GOLDEN_DIR) / "torch_lightning.ckpt").string();
  const CommandResult result = start("set_default", lightning);
  EXPECT_NE(result.err.find("weights net_swa of net, net_swa"), std::string::npos) << result.err;
  auto args = train_args("passt", path("data"), path("set_none"), {"train.max_steps=1"});
  args.insert(args.end(), {"--init-from", lightning, "--init-set", "ema", "--device", "cpu"});
  const CommandResult none = run_command(args);
  EXPECT_EQ(none.code, 83) << none.err;
  EXPECT_NE(none.err.find("no weights 'ema'"), std::string::npos) << none.err;
}

// A preset that somebody chose is as much a choice as each of its sizes, and patchout is that of
// the variant.
TEST_F(InitFrom, APresetThatTheWeightsContradictIsRefused) {
  const auto with = [](const std::string& preset) {
    return std::vector<std::string>{"model.preset=" + preset, "model.depth=5", "model.width=64",
                                    "model.heads=1", "model.mlp=96"};
  };
  expect_refused("published.safetensors", with("passt-s-s16"),
                 {"model.stride_f (of model.preset=passt-s-s16) is 16, the weights have 10: leave "
                  "model.preset out"});
  expect_refused("published.safetensors", with("passt-s-30sec"),
                 {"model.table_t (of model.preset=passt-s-30sec) is 300, the weights have 99"});
  expect_refused("published.safetensors", {"model.depth=4", "model.preset=passt-s"},
                 {"model.width"});
}

// Ranks that are processes: rank 0 alone reads the weights. The moments are kept in parts.
TEST_F(InitFrom, TwoRanksHaveTheWeightsOfOne) {
  const std::vector<std::string> set = {
      "train.epochs=2", "optim.layer_decay=0.7",      "train.freeze=embed,blocks.1.mlp",
      "train.lr=1e-4",  "train.shard_optimizer=true", "optim.eps=1e-3"};
  ASSERT_EQ(train("one", "published.safetensors", set).code, 0);
  std::vector<std::string> all = {"data.seconds=0.5",      "train.batch_size=4",
                                  "train.eval_epochs=0",   "train.checkpoint_epochs=0",
                                  "train.patchout_time=0", "train.patchout_freq=0",
                                  "mel.freq_mask=0",       "mel.time_mask=0"};
  all.insert(all.end(), set.begin(), set.end());
  auto args = train_args("passt", path("data"), path("two"), all);
  args.insert(args.end(),
              {"--init-from", path("published.safetensors").string(), "--device", "cpu"});
  for (Command& rank : start_ranks(ONPA_COMMAND, 2, args)) {
    const CommandResult result = rank.wait();
    ASSERT_EQ(result.code, 0) << result.err;
  }
  EXPECT_LT(weight_difference(path("one"), path("two")), 1e-6);
}

}  // namespace
}  // namespace onpa::testing
