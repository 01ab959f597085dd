#include "nn/weights_file.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/support/pickle_text.h"
#include "tests/support/temp_folder.h"

namespace onpa::nn {
namespace {

namespace fs = std::filesystem;
using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

fs::path golden(const std::string& name) {
  return fs::path(ONPA_GOLDEN_DIR) / ("torch_" + name);
}

// The tensors of weights() in tests/golden/make_torch_files.py.
void expect_weights(const WeightsFile& file, float scale) {
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].first, "head.weight");
  EXPECT_EQ(file.tensors[0].second.to_vector<float>(),
            (std::vector<float>{-scale, -0.5f * scale, 0, 0.5f * scale}));
  EXPECT_EQ(file.tensors[1].first, "head.bias");
  EXPECT_EQ(file.tensors[1].second.shape(), Shape{2});
}

std::string message_of(const fs::path& path, const std::string& set = "") {
  try {
    read_weights(path, set);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint) << error.what();
    EXPECT_EQ(std::string(error.what()).find(path.string()), 0u) << error.what();
    return error.what();
  }
  return "";
}

void expect_said(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

TEST(WeightsFile, PlainStateDict) {
  const WeightsFile file = read_weights(golden("kinds_2_15.pt"));
  EXPECT_EQ(file.container, "torch zip");
  EXPECT_EQ(file.set, "");
  EXPECT_EQ(file.precision, "mixed");
  EXPECT_EQ(file.tensors.size(), 10u);
  EXPECT_EQ(file.others, std::vector<std::string>{"num_batches_tracked"});
}

TEST(WeightsFile, DeitFileNestsUnderModel) {
  const WeightsFile file = read_weights(golden("deit.pt"));
  expect_weights(file, 1);
  EXPECT_EQ(file.set, "model");
  EXPECT_EQ(file.precision, "f32");
  EXPECT_EQ(file.others, (std::vector<std::string>{"optimizer", "epoch", "args"}));
}

TEST(WeightsFile, LightningFileGivesTheAveragedWeightsUnlessToldOtherwise) {
  const WeightsFile file = read_weights(golden("lightning.ckpt"));
  expect_weights(file, 3);
  EXPECT_EQ(file.set, "net_swa");
  EXPECT_EQ(file.sets, (std::vector<std::string>{"net", "net_swa"}));
  const WeightsFile raw = read_weights(golden("lightning.ckpt"), "net");
  expect_weights(raw, 1);
  EXPECT_EQ(raw.set, "net");
  expect_said(message_of(golden("lightning.ckpt"), "ema"), {"no weights 'ema'", "net, net_swa"});
}

TEST(WeightsFile, DataParallelPrefixIsStripped) {
  expect_weights(read_weights(golden("parallel.pt")), 1);
}

using testing::pickle::proto;
using testing::pickle::text;

// A tensor of two elements, all of one storage.
std::string two() {
  return testing::pickle::tensor(testing::pickle::storage("FloatStorage", "0", 2), 0, {2}, {1});
}
std::string dict_of(const std::vector<std::string>& names) {
  std::string out = "}";
  for (const std::string& name : names) out += text(name) + two() + "s";
  return out;
}

// What torch.save would have made of a pickle, before its archives of PyTorch 1.6.
WeightsFile read_pickle(const std::string& pickle, const std::string& set = "") {
  using testing::pickle::le;
  const std::string bytes = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + proto() +
                            "M\xe9\x03." + proto() + "}" + text("little_endian") + "\x88s." +
                            proto() + pickle + "." + proto() + "]" + text("0") + "a." + le(2, 8) +
                            std::string(8, '\0');
  return read_torch_weights(std::as_bytes(std::span(bytes)), "input", set);
}

TEST(WeightsFile, WrappersAreStrippedInAnyOrder) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.net.", "net"},         {"net.model.", "net"},
      {"net_swa.model.", "net_swa"}, {"model.net_swa.module.", "net_swa"},
      {"module.model.", "model"},    {"model._orig_mod.module.net.module.", "net"},
      {"module._orig_mod.", ""}};
  for (const auto& [prefix, set] : cases) {
    const WeightsFile file = read_pickle(dict_of({std::string(prefix) + "cls_token"}));
    EXPECT_EQ(file.set, set) << prefix;
    ASSERT_EQ(file.tensors.size(), 1u) << prefix;
    EXPECT_EQ(file.tensors[0].first, "cls_token") << prefix;
  }
  const WeightsFile both = read_pickle(dict_of({"net.model.a", "net_swa.model.a"}));
  EXPECT_EQ(both.sets, (std::vector<std::string>{"net", "net_swa"}));
  const WeightsFile named = read_pickle("}" + text("ema") + dict_of({"model.a"}) + "s" +
                                        text("model") + dict_of({"model.a"}) + "s");
  EXPECT_EQ(named.sets, (std::vector<std::string>{"ema", "model"}));
  EXPECT_EQ(read_pickle(dict_of({"model."})).tensors[0].first, "model.");
}

TEST(WeightsFile, EverySetThatIsListedCanBeChosen) {
  const std::string mixed = dict_of({"a", "net.a"});
  EXPECT_EQ(read_pickle(mixed).set, "net");
  const WeightsFile plain = read_pickle(mixed, "without a name");
  EXPECT_EQ(plain.set, "");
  EXPECT_EQ(plain.tensors.size(), 1u);
  EXPECT_EQ(set_labels(plain), "without a name, net");

  // One dict under two names.
  const std::string twice = "}" + text("ema") + dict_of({"a"}) + "q\x07s" + text("model") +
                            "h\x07s" + text("empty") + "}q\x08s" + text("again") + "h\x08s";
  const WeightsFile shared = read_pickle(twice);
  EXPECT_EQ(shared.sets, (std::vector<std::string>{"ema", "model"}));
  EXPECT_EQ(shared.set, "model");
  EXPECT_EQ(shared.others, (std::vector<std::string>{"empty", "again"}));
  EXPECT_EQ(read_pickle(twice, "ema").set, "ema");
  EXPECT_EQ(read_pickle(twice, "ema").tensors.size(), 1u);
}

TEST(WeightsFile, SafetensorsAreKnownByContentNotName) {
  const TempFolder folder;
  io::write_safetensors(folder / "model.pt",
                        {{"a", Tensor::full({2}, 3)},
                         {"b", Tensor::full({1}, 2, DType::kF64)},
                         {"n", Tensor::from<std::int64_t>({1}, std::vector<std::int64_t>{2})}},
                        {{"kind", "passt"}});
  const WeightsFile file = read_weights(folder / "model.pt");
  EXPECT_EQ(file.container, "safetensors");
  EXPECT_EQ(file.precision, "mixed");
  EXPECT_EQ(file.metadata.at("kind"), "passt");
  EXPECT_EQ(file.others, std::vector<std::string>{"n"});
  ASSERT_EQ(file.tensors.size(), 2u);
  for (const auto& [name, tensor] : file.tensors) EXPECT_EQ(tensor.dtype(), DType::kF32);
  expect_said(message_of(folder / "model.pt", "net"), {"no weights 'net'", "safetensors"});
  EXPECT_EQ(read_weights(folder / "model.pt", "without a name").set, "");
}

TEST(WeightsFile, SaysWhatStandsInPlaceOfWeights) {
  const TempFolder folder;
  const auto said = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    write_bytes(folder / "model.pt", bytes);
    expect_said(message_of(folder / "model.pt"), parts);
  };
  said("", {"empty"});
  said("<!DOCTYPE html><html>", {"web page", "link of the file itself"});
  said("version https://git-lfs.github.com/spec/v1\noid sha256:1", {"Git LFS pointer", "lfs pull"});
  said("\x1f\x8b\x08 and so on", {"gzip", "unpack"});
  said("some text", {"not a safetensors file, nor one of torch.save"});
  const std::string whole = read_bytes(golden("deit.pt"));
  said(whole.substr(0, whole.size() / 2), {"cut short", "download"});
  const std::string tensors = read_bytes(ONPA_GOLDEN_DIR "/types.safetensors");
  said(tensors.substr(0, tensors.size() - 10), {"but the file holds", "cut short", "download"});
  said(tensors.substr(0, 40), {"cut short", "download"});
  const std::string old = read_bytes(golden("kinds_2_15_old.pt"));
  said(old.substr(0, old.size() - 1), {"cut short", "download"});
  said(old.substr(0, old.size() / 2), {"cut short", "download"});
  said(old.substr(0, 200), {"cut short", "download"});
  expect_said(message_of(golden("script.pt")), {"TorchScript", "torch.jit.load", "state_dict()"});
  expect_said(message_of(golden("optimizer.pt")), {"state of an optimizer", "state_dict()"});
  EXPECT_THROW(read_weights(folder / "none.pt"), Error);
}

}  // namespace
}  // namespace onpa::nn
