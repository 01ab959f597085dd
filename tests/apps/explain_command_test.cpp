// The verb explain: the files that it writes, and what it refuses.
#include <gtest/gtest.h>
#include <png.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/inference/explain_figure.h"
#include "apps/inference/model_card.h"
#include "audio/encode.h"
#include "nn/passt.h"
#include "tensor/io/npy.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/run_command.h"
#include "tests/support/hash_fill.h"

namespace onpa::apps {
namespace {

using testing::CommandResult;

class ExplainCommand : public ::testing::Test {
 protected:
  ExplainCommand() {
    nn::Passt model(nn::PasstConfig::preset("passt-xs"));
    testing::hash_fill_parameters(model);
    ModelCard card;
    card.kind = "passt";
    card.passt = model.config();
    card.mel.mels = static_cast<int>(card.passt.mels);
    card.target_mean = 50;
    card.target_std = 10;
    io::NamedTensors tensors;
    for (const nn::NamedParameter& p : model.parameters()) tensors.emplace_back(p.name, p.tensor);
    io::write_safetensors(folder_ / "model.safetensors", tensors, card.metadata());
    write_tone(kAudio, 16000);
  }
  void write_tone(const std::string& name, int samples) {
    audio::Clip clip;
    for (int i = 0; i < samples; ++i) {
      const double t = i / 32000.0;
      clip.samples.push_back(static_cast<float>(0.4 * std::sin(2 * M_PI * 1000 * t * (1 + t))));
    }
    const std::vector<std::byte> bytes = audio::encode_mp3(clip, 128);
    testing::write_bytes(folder_ / name, std::span<const std::byte>(bytes));
  }
  CommandResult run(const std::string& audio, const std::string& out,
                    std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"explain", "--model", path("model.safetensors"), path(audio),
                               "--out", path(out), "--device", "cpu"});
    return testing::run_command(more);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string read(const std::string& name) const { return testing::read_bytes(folder_ / name); }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read(name)); }

  static constexpr const char* kAudio = "R&B <b>.mp3";
  const testing::TempFolder folder_;
};

TEST_F(ExplainCommand, PngHoldsTheFigure) {
  const CommandResult result = run(kAudio, "out.png");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  const std::string bytes = read("out.png");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  ASSERT_NE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()), 0);
  EXPECT_EQ(image.width, 1920u);
  EXPECT_EQ(image.height, 1380u);
  image.format = PNG_FORMAT_GRAY;
  std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image));
  ASSERT_NE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr), 0);
  const auto dark = [&](std::size_t x, std::size_t y, std::size_t width, std::size_t height) {
    std::size_t count = 0;
    for (std::size_t row = y; row < y + height; ++row) {
      for (std::size_t column = x; column < x + width; ++column) {
        count += pixels[row * image.width + column] < 100 ? 1 : 0;
      }
    }
    return count;
  };
  EXPECT_EQ(dark(0, 0, 1920, 30), 0u);           // the margin
  EXPECT_GT(dark(36, 30, 800, 50), 500u);        // the title
  EXPECT_GT(dark(124, 184, 1400, 352), 10000u);  // the spectrogram
}

TEST_F(ExplainCommand, SvgHasNamesEscapedAndItsPicturesInside) {
  const CommandResult result = run(kAudio, "out.SVG", {"--method", "integrated"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string svg = read("out.SVG");
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_NE(svg.find("R&amp;B &lt;b&gt;.mp3 · prediction "), std::string::npos);
  EXPECT_EQ(svg.find("<b>"), std::string::npos);
  EXPECT_NE(svg.find("href=\"data:image/png;base64,iVBOR"), std::string::npos);
  EXPECT_EQ(svg.find("href=\"http"), std::string::npos);
  EXPECT_NE(svg.find("Integrated gradients from silence, 64 steps"), std::string::npos);
}

TEST_F(ExplainCommand, NumbersAgreeWithTheMapAndWithPredict) {
  for (const std::string method :
       {"rollout", "attention", "gradient", "gradient-input", "integrated"}) {
    SCOPED_TRACE(method);
    const CommandResult result =
        run(kAudio, "out.svg",
            {"--method", method, "--json", path("out.json"), "--npy", path("out.npy")});
    ASSERT_EQ(result.code, 0) << result.err;
    const nlohmann::json out = json("out.json");
    const Tensor map = io::read_npy(folder_ / "out.npy");
    EXPECT_EQ(out.at("map_shape"), (nlohmann::json{map.size(0), map.size(1)}));
    const bool attention = method == "rollout" || method == "attention";
    EXPECT_EQ(map.size(0), attention ? 5 : 32);
    double sum = 0;
    for (const float x : map.span<float>()) sum += static_cast<double>(x);
    if (attention) {
      EXPECT_GT(sum, 0);
      EXPECT_LT(sum, 1);
      EXPECT_FALSE(out.contains("sum"));
    } else {
      EXPECT_NEAR(out.at("sum"), sum, 1e-4 * (1 + std::abs(sum)));
    }
    EXPECT_EQ(out.at("over_frequency").at("hz").size(), 32u);
    const CommandResult predicted = testing::run_command(
        {"predict", "--model", path("model.safetensors"), path(kAudio), "--json"});
    EXPECT_NEAR(out.at("value"), nlohmann::json::parse(predicted.out).at("prediction"), 1e-4);
    if (method != "integrated") continue;
    const double change = out.at("value").get<double>() - out.at("silence_value").get<double>();
    EXPECT_LT(out.at("gap"), 0.05);
    EXPECT_NEAR(sum, change, 0.05 * std::abs(change));
    double over_time = 0;
    for (const double x : out.at("over_time").at("values")) {
      over_time += x * out.at("frame_seconds").get<double>();
    }
    EXPECT_NEAR(over_time, sum, 1e-4 * (1 + std::abs(sum)));
  }
}

TEST_F(ExplainCommand, OfALongClipAWindowIsExplained) {
  write_tone("long.mp3", 80000);
  const CommandResult whole = run("long.mp3", "out.svg", {"--json", path("out.json")});
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_NEAR(json("out.json").at("seconds"), 1, 1e-9);  // the model's length
  EXPECT_NE(read("out.svg").find("seconds 0.00 to 1.00 of 2.50"), std::string::npos);

  const CommandResult later =
      run("long.mp3", "later.svg", {"--from", "1.25", "--json", path("later.json")});
  ASSERT_EQ(later.code, 0) << later.err;
  EXPECT_NE(read("later.svg").find("seconds 1.25 to 2.25 of 2.50"), std::string::npos);
  EXPECT_NE(json("out.json").at("over_frequency"), json("later.json").at("over_frequency"));

  const CommandResult end = run("long.mp3", "end.svg", {"--from", "2", "--json", path("end.json")});
  ASSERT_EQ(end.code, 0) << end.err;
  EXPECT_NEAR(json("end.json").at("seconds"), 0.5, 1e-9);
}

// Under one patch, and under what decoding a whole file takes.
TEST_F(ExplainCommand, AShortClipIsPaddedAndKeepsItsLength) {
  write_tone("short.mp3", 1000);
  const CommandResult result = run("short.mp3", "out.svg", {"--json", path("out.json")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("padded with silence"), std::string::npos) << result.err;
  EXPECT_NEAR(json("out.json").at("seconds"), 0.03125, 1e-9);
  EXPECT_NEAR(json("out.json").at("clip_seconds"), 0.03125, 1e-9);
}

// The end of a file that is longer than what decoding a whole one takes.
TEST_F(ExplainCommand, AnyLengthIsExplained) {
  // 1000 Hz, 8 bits; a length of 0 is one that the writer did not know.
  std::string hour(
      "RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\xE8\3\0\0\xE8\3\0\0\1\0\x08\0data\0\0\0\0", 44);
  hour.append(std::size_t{1000} * 1801, '\x80');
  testing::write_bytes(folder_ / "hour.wav", hour);
  const CommandResult result =
      run("hour.wav", "out.svg", {"--from", "1800.5", "--json", path("out.json")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NEAR(json("out.json").at("seconds"), 0.5, 1e-9);
  EXPECT_NEAR(json("out.json").at("clip_seconds"), 1801, 1e-9);
}

TEST_F(ExplainCommand, RefusalsHaveTheirCodes) {
  testing::write_bytes(folder_ / "text.mp3", std::string("no audio at all"));
  const auto refused = [&](const CommandResult& result, int code, const std::string& part) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out.png"));
  };
  refused(run(kAudio, "out.jpg"), 64, ".png or .svg");
  refused(run(kAudio, "out.png", {"--method", "magic"}), 64, "magic");
  refused(run(kAudio, "out.png", {"--layer", "0"}), 64, "rollout");
  refused(run(kAudio, "out.png", {"--method", "attention", "--layer", "2"}), 64, "0 to 1");
  refused(run(kAudio, "out.png", {"--method", "attention", "--head", "4"}), 64, "0 to 3");
  refused(run(kAudio, "out.png", {"--method", "gradient", "--output", "1"}), 64, "--output");
  refused(run(kAudio, "out.png", {"--from", "7"}), 64, "--from");
  refused(run("text.mp3", "out.png"), 65, "text.mp3");
  refused(run("none.mp3", "out.png"), 66, "none.mp3");
  refused(run(kAudio, "none/out.png"), 73, "none");
  refused(run(kAudio, "out.png", {"--json", path("none/x.json")}), 73, "none");
}

TEST_F(ExplainCommand, DenseModelsHaveNothingToHear) {
  ModelCard card;
  card.kind = "dense";
  card.feature_names = {"a", "b"};
  card.features.mean = {0, 0};
  card.features.std = {1, 1};
  card.dense.inputs = 2;
  card.dense.hidden = {};
  nn::Dense model(card.dense);
  io::NamedTensors tensors;
  for (const nn::NamedParameter& p : model.parameters()) {
    testing::hash_fill(p.tensor, p.name, 0, 1);
    tensors.emplace_back(p.name, p.tensor);
  }
  io::write_safetensors(folder_ / "model.safetensors", tensors, card.metadata());
  const CommandResult result = run(kAudio, "out.png");
  EXPECT_EQ(result.code, 64);
  EXPECT_NE(result.err.find("dense"), std::string::npos) << result.err;
}

TEST(ExplainFigure, BandsLieWhereTheFrontEndHasThem) {
  const audio::MelConfig config;
  for (const std::int64_t band : {0, 63, 127}) {
    EXPECT_NEAR(figure::mel_position(config, figure::band_centre_hz(config, band)),
                (static_cast<double>(band) + 0.5) / 128, 1e-9);
  }
  EXPECT_NEAR(figure::band_centre_hz(config, 35), 1000, 33);  // 1 kHz is between 35 and 36
}

}  // namespace
}  // namespace onpa::apps
