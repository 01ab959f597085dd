// Published PaSST files through the command: convert, inspect, predict, and what it says of files
// that do not fit.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/inference/predictor.h"
#include "kernels/error.h"
#include "nn/dense.h"
#include "nn/passt.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/torch_file_write.h"
#include "tests/apps/train_support.h"
#include "tests/support/hash_fill.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using apps::ModelCard;
using apps::Predictor;

// One head of the published width: shapes still say everything.
nn::PasstConfig small(std::int64_t stride = 10, std::int64_t table_t = 99) {
  nn::PasstConfig config;
  config.stride_f = config.stride_t = stride;
  config.table_t = table_t;
  config.width = 64;
  config.heads = 1;
  config.depth = 2;
  config.mlp = 256;
  config.outputs = 3;
  return config;
}

class WeightFiles : public ::testing::Test {
 protected:
  static io::NamedTensors tensors_of(const nn::PasstConfig& config,
                                     const std::string& prefix = "") {
    return tensors_of(nn::Passt(config), prefix);
  }
  template <class Model>
  static io::NamedTensors tensors_of(Model model, const std::string& prefix = "") {
    hash_fill_parameters(model);
    io::NamedTensors out;
    for (const auto& p : model.parameters()) out.emplace_back(prefix + p.name, p.tensor.detach());
    return out;
  }
  fs::path write(const std::string& name, const io::NamedTensors& tensors) {
    io::write_torch_file(folder_ / name, tensors);
    return folder_ / name;
  }
  fs::path write(const std::string& name, const nn::PasstConfig& config) {
    return write(name, tensors_of(config));
  }
  static CommandResult run(const std::vector<std::string>& args) { return run_command(args); }
  static void expect_said(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
    }
  }
  static std::string message_of(const fs::path& path, ExitCode code,
                                const apps::WeightsChoice& choice = {}) {
    try {
      Predictor model(path, choice);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_EQ(std::string(error.what()).find(path.string()), 0u) << error.what();
      return error.what();
    }
    return "accepted";
  }

  TempFolder folder_;
};

TEST_F(WeightFiles, TableSaysHopAndClipLength) {
  struct Published {
    std::int64_t stride, table_t;
    int hop;
    double seconds;
  };
  const Published published[] = {{10, 99, 320, 10}, {12, 83, 320, 10},  {14, 71, 320, 10},
                                 {16, 62, 320, 10}, {10, 300, 320, 30}, {10, 320, 100, 10}};
  for (const Published& p : published) {
    const Predictor model(write("model.pt", small(p.stride, p.table_t)));
    EXPECT_EQ(model.card().passt.stride_t, p.stride);
    EXPECT_EQ(model.card().mel.hop_samples, p.hop) << p.table_t;
    EXPECT_EQ(model.card().seconds, p.seconds) << p.table_t;
  }
}

TEST_F(WeightFiles, TableThatFitsTwoHopsNeedsTheNameOrTheOption) {
  const nn::PasstConfig config = small(10, 200);
  const fs::path named = write("passt-s-f128-stfthop160-p16-s10-ap.473-swa.pt", config);
  EXPECT_EQ(Predictor(named).card().mel.hop_samples, 160);
  EXPECT_EQ(Predictor(named).card().seconds, 10);
  const fs::path longer = write("passt-s-f128-20sec-p16-s10-ap.474-swa.pt", config);
  EXPECT_EQ(Predictor(longer).card().mel.hop_samples, 320);
  EXPECT_EQ(Predictor(longer).card().seconds, 20);
  const fs::path bare = write("model.pt", config);
  expect_said(message_of(bare, ExitCode::kConfig),
              {"200 columns", "20-s clips at hop 320", "10-s clips at hop 160", "--hop 160"});
  EXPECT_EQ(Predictor(bare, {.set = "", .hop = 160}).card().seconds, 10);
  EXPECT_EQ(Predictor(bare, {.set = "", .hop = 320}).card().seconds, 20);
}

TEST_F(WeightFiles, TableOfNoPublishedLengthNeedsTheOption) {
  const fs::path bare = write("model.pt", small(10, 150)), kept = folder_ / "kept.safetensors";
  expect_said(message_of(bare, ExitCode::kConfig),
              {"150 columns", "no published input", "give --hop"});
  EXPECT_EQ(run({"convert", bare.string(), kept.string()}).code, 78);
  EXPECT_FALSE(fs::exists(kept));
  const CommandResult open = run({"inspect", bare.string()});
  ASSERT_EQ(open.code, 0) << open.err;
  expect_said(open.out, {"at most 150", "front end: not known", "give --hop"});
  const Predictor model(bare, {.set = "", .hop = 100});
  EXPECT_EQ(model.card().mel.hop_samples, 100);
  EXPECT_EQ(model.card().seconds, 0);
}

TEST_F(WeightFiles, ConvertedFilesKeepTheFrontEnd) {
  const fs::path bare = write("model.pt", small(10, 200));
  const fs::path kept = folder_ / "kept.safetensors", back = folder_ / "back.pt";
  EXPECT_EQ(run({"convert", bare.string(), kept.string()}).code, 78);
  EXPECT_FALSE(fs::exists(kept));
  ASSERT_EQ(run({"convert", bare.string(), kept.string(), "--hop", "160"}).code, 0);
  ASSERT_EQ(run({"convert", kept.string(), back.string()}).code, 0);
  for (const fs::path& path : {kept, back}) {
    const Predictor model(path);
    EXPECT_EQ(model.card().mel.hop_samples, 160);
    EXPECT_EQ(model.card().seconds, 10);
    EXPECT_EQ(model.card().passt.table_t, 200);
    expect_said(message_of(path, ExitCode::kConfig, {.set = "", .hop = 320}),
                {"made for hop 160", "--hop 320"});
  }
  const auto before = tensors_of(small(10, 200));
  const auto after = nn::read_weights(back).tensors;
  ASSERT_EQ(after.size(), before.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(after[i].first, before[i].first);
    EXPECT_EQ(after[i].second.to_vector<float>(), before[i].second.to_vector<float>());
  }
  const CommandResult bad = run({"convert", bare.string(), (folder_ / "x.onnx").string()});
  EXPECT_EQ(bad.code, 64);
  expect_said(bad.err, {"x.onnx", ".safetensors, .pt or .pth"});
}

TEST_F(WeightFiles, AveragedWeightsAreTakenAndSaid) {
  auto tensors = tensors_of(small(), "net.");
  for (auto& [name, tensor] : tensors_of(small(), "net_swa.")) {
    tensors.emplace_back(name, Tensor::zeros(tensor.shape()));
  }
  const fs::path path = write("last.ckpt.pt", tensors);
  const fs::path raw = folder_ / "raw.safetensors", averaged = folder_ / "swa.safetensors";
  const CommandResult said = run({"convert", path.string(), averaged.string()});
  ASSERT_EQ(said.code, 0) << said.err;
  expect_said(said.err, {"weights net_swa of net, net_swa", "--set"});
  ASSERT_EQ(run({"convert", path.string(), raw.string(), "--set", "net"}).code, 0);
  EXPECT_EQ(io::read_safetensors(averaged).find("head.0.weight").to_vector<float>()[0], 0);
  EXPECT_NE(io::read_safetensors(raw).find("head.0.weight").to_vector<float>()[0], 0);
  expect_said(message_of(path, ExitCode::kBadCheckpoint, {.set = "ema"}),
              {"no weights 'ema'", "net, net_swa"});
}

TEST_F(WeightFiles, InspectSaysWhatAFileIs) {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-s-s16");
  config.width = 64;
  config.heads = 1;
  config.mlp = 256;
  const CommandResult own = run({"inspect", write("own.pt", config).string()});
  ASSERT_EQ(own.code, 0) << own.err;
  expect_said(own.out, {"torch zip", "stored as: f32", "depth 12", "outputs 527", "strides 16 x 16",
                        "at most 62", "320 samples between frames", "clips of 10 s",
                        "variant: none of the presets"});
  const CommandResult open = run({"inspect", write("model.pt", small(10, 200)).string()});
  ASSERT_EQ(open.code, 0) << open.err;
  expect_said(open.out, {"at most 200", "front end: not known", "--hop 160"});
  const std::string golden = ONPA_GOLDEN_DIR "/torch_";
  const CommandResult lightning = run({"inspect", golden + "lightning.ckpt"});
  ASSERT_EQ(lightning.code, 0) << lightning.err;
  expect_said(lightning.out, {"weights: net_swa (it has: net, net_swa; --set chooses)",
                              "passed over: ", "optimizer_states", "not a model's weights",
                              "no tensor cls_token"});
  EXPECT_EQ(run({"inspect", golden + "script.pt"}).code, 83);
}

TEST_F(WeightFiles, OtherWeightsAreNamed) {
  auto tensors = tensors_of(small());
  std::erase_if(tensors, [](const auto& t) { return t.first.find("new_pos") != t.first.npos; });
  tensors.emplace_back("pos_embed", Tensor::zeros({1, 578, 64}));
  expect_said(message_of(write("deit.pt", tensors), ExitCode::kBadCheckpoint),
              {"image transformer", "--init-from"});
  expect_said(message_of(write("other.pt", io::NamedTensors{{"conv.weight", Tensor::zeros({2})}}),
                         ExitCode::kBadCheckpoint),
              {"no tensor cls_token", "conv.weight", "state_dict() of a PaSST"});
}

TEST_F(WeightFiles, BrokenWeightsAreNotConverted) {
  const auto without = [&](const std::string& name) {
    auto tensors = tensors_of(small());
    EXPECT_EQ(std::erase_if(tensors, [&](const auto& t) { return t.first == name; }), 1u);
    return tensors;
  };
  auto reshaped = without("blocks.0.mlp.fc2.bias"), more = tensors_of(small());
  reshaped.emplace_back("blocks.0.mlp.fc2.bias", Tensor::zeros({3}));
  more.emplace_back("fc.weight", Tensor::zeros({3, 3}));
  const std::pair<io::NamedTensors, std::vector<std::string>> cases[] = {
      {without("blocks.1.mlp.fc2.bias"), {"missing blocks.1.mlp.fc2.bias"}},
      {without("blocks.0.norm1.weight"), {"no tensor blocks.0.norm1.weight", "there is blocks."}},
      {reshaped, {"blocks.0.mlp.fc2.bias", "(3)", "(64)"}},
      {more, {"unexpected fc.weight"}}};
  const fs::path out = folder_ / "out.safetensors";
  for (const auto& [tensors, parts] : cases) {
    const std::string file = write("broken.pt", tensors).string();
    const CommandResult refused = run({"convert", file, out.string()});
    EXPECT_EQ(refused.code, 83) << refused.err;
    expect_said(refused.err, parts);
    EXPECT_FALSE(fs::exists(out));
    const CommandResult shown = run({"inspect", file});
    EXPECT_EQ(shown.code, 0) << shown.err;
    expect_said(shown.out, parts);
    EXPECT_NE(shown.out.find("\nnot "), std::string::npos) << shown.out;
  }
  // The head that nothing reads may be missing.
  nn::PasstConfig config = small();
  config.head_dist = false;
  EXPECT_EQ(run({"convert", write("one.pt", config).string(), out.string()}).code, 0);
}

TEST_F(WeightFiles, ABrokenDenseIsNotConverted) {
  apps::ModelCard card;
  card.kind = "dense";
  card.feature_names = {"a", "b"};
  card.features = {.mean = {0, 0}, .std = {1, 1}};
  card.dense = {.inputs = 2, .hidden = {3}, .outputs = 1};
  const io::NamedTensors whole = tensors_of(nn::Dense(card.dense));
  const fs::path file = folder_ / "dense.safetensors", out = folder_ / "out.safetensors";
  const auto said = [&](const apps::ModelCard& card, const io::NamedTensors& tensors) {
    io::write_safetensors(file, tensors, card.metadata());
    const CommandResult refused = run({"convert", file.string(), out.string()});
    EXPECT_EQ(refused.code, 83) << refused.err;
    EXPECT_FALSE(fs::exists(out));
    return refused.err;
  };
  io::NamedTensors less(whole.begin(), whole.end() - 1), more = whole, reshaped = whole;
  more.emplace_back("layers.2.bias", Tensor::zeros({1}));
  reshaped[1].second = Tensor::zeros({4});
  expect_said(said(card, less), {"missing layers.1.bias"});
  expect_said(said(card, more), {"unexpected layers.2.bias"});
  expect_said(said(card, reshaped), {"layers.0.bias", "(4)", "(3)"});
  // Nothing makes room for layers that are not there.
  apps::ModelCard vast = card;
  vast.dense.hidden = {1'000'000'000, 1'000'000'000};
  expect_said(said(vast, whole), {"layers.0.weight is (3, 2), want (1000000000, 2)"});
  io::write_safetensors(file, whole, card.metadata());
  EXPECT_EQ(run({"convert", file.string(), out.string()}).code, 0);
}

TEST_F(WeightFiles, WeightsThatAreNotFiniteAreNotUsed) {
  auto tensors = tensors_of(small());
  for (const auto& [name, tensor] : tensors) {
    if (name == "norm.bias") tensor.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  }
  const fs::path path = write("nan.pt", tensors);
  const std::vector<std::string> said = {"tensor norm.bias holds NaN or infinity"};
  expect_said(message_of(path, ExitCode::kBadCheckpoint), said);
  const CommandResult shown = run({"inspect", path.string()});
  expect_said(shown.out, said);
  const CommandResult kept =
      run({"convert", path.string(), (folder_ / "nan.safetensors").string()});
  EXPECT_EQ(kept.code, 0) << kept.err;
  expect_said(kept.err, said);
  tensors[0].second.data<float>()[0] = std::numeric_limits<float>::infinity();
  expect_said(message_of(write("inf.pt", tensors), ExitCode::kBadCheckpoint),
              {tensors[0].first + " holds NaN or infinity"});
}

TEST_F(WeightFiles, ChoiceIsRefusedWhereThereIsNone) {
  fs::create_directory(folder_ / "run");
  expect_said(message_of(folder_ / "run", ExitCode::kUsage, {.set = "net"}), {"--set and --hop"});
}

}  // namespace
}  // namespace onpa::testing
