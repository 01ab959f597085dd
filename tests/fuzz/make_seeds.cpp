// Writes small whole files of the kinds that onpa and FFmpeg write: a part of the inputs that
// fuzzing starts from. What the fuzzer finds beyond them is added by `./dev fuzz --keep`.
//
//   tests/fuzz/make_seeds.py build/onpa_fuzz_seeds
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/support/config.h"
#include "nn/manifest.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"
#include "tests/support/audio_files.h"

namespace onpa {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

void audio_seeds(const fs::path& folder) {
  struct Seed {
    const char* name;
    testing::FileKind kind;
    int channels, rate_hz;
  };
  const Seed seeds[] = {
      {"mono.mp3", {"mp3", "libmp3lame", "", 32000}, 1, 32000},
      {"stereo.mp3", {"mp3", "libmp3lame", "", 64000}, 2, 44100},
      {"low.mp3", {"mp3", "libmp3lame", "", 24000}, 1, 24000},
      {"s16.wav", {"wav", "pcm_s16le"}, 1, 8000},
      {"f32.wav", {"wav", "pcm_f32le"}, 2, 8000},
      {"a.flac", {"flac", "flac"}, 1, 16000},
      {"vorbis.ogg", {"ogg", "libvorbis", "", 48000}, 1, 32000},
      {"opus.ogg", {"ogg", "libopus", "", 32000}, 1, 48000},
      {"aac.m4a", {"ipod", "aac", "", 32000}, 1, 32000},
  };
  for (const Seed& seed : seeds) {
    if (!testing::has_encoder(seed.kind.encoder)) continue;
    const auto bytes = testing::make_file(
        seed.kind, testing::make_tones(seed.channels, seed.rate_hz / 8, seed.rate_hz, 1000),
        seed.rate_hz);
    write(folder / seed.name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
}

void safetensors_seeds(const fs::path& folder) {
  fs::create_directories(folder);
  const Tensor f32 = Tensor::from<float>({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const Tensor i64 = Tensor::from<std::int64_t>({2}, std::vector<std::int64_t>{7, -8});
  io::write_safetensors(folder / "empty", {});
  io::write_safetensors(folder / "metadata", {}, {{"kind", "passt"}, {"a\nb", "\"\\\u00e9"}});
  io::write_safetensors(folder / "one", {{"weight", f32}});
  io::write_safetensors(folder / "several",
                        {{"w", f32}, {"n", i64}, {"none", Tensor::empty({0, 4})}},
                        {{"step", "12"}});
  write(
      folder / "halves",
      std::string("\x70\0\0\0\0\0\0\0", 8) +
          R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}}  )" +
          std::string("\x00\x3c\x00\xbc\x80\x3f\x80\xbf", 8));
}

void manifest_seeds(const fs::path& folder) {
  nn::Manifest manifest;
  for (int files = 0; files < 5; ++files) {
    write(folder / ("files" + std::to_string(files)), nn::format_manifest(manifest));
    manifest.step += 1200;
    manifest.files["file_" + std::to_string(files) + ".safetensors"] = {
        .bytes = std::uint64_t{1} << (10 * files), .xxh3_64 = "0123456789abcdef"};
  }
}

void card_seeds(const fs::path& folder) {
  apps::ModelCard card;
  const auto lines = [&] {
    std::string text;
    for (const auto& [key, value] : card.metadata()) text += key + "=" + value + "\n";
    return text;
  };
  card.kind = "dense";
  card.dense = {.inputs = 2, .hidden = {3}, .outputs = 1};
  card.feature_names = {"energy", "valence"};
  card.features = {.mean = {0.5f, 0.25f}, .std = {1, 2}};
  write(folder / "dense", lines());
  card.dense.activation = kernels::Activation::kGelu;
  card.target_std = 0.25;
  write(folder / "gelu", lines());
  card.kind = "passt";
  card.passt = nn::PasstConfig::preset("passt-xs");
  card.passt.width = card.passt.heads = card.passt.mlp = 4;
  card.passt.depth = 1;
  card.mel.mels = 32;
  write(folder / "passt", lines());
  card.mel.hop_samples = 160;
  card.mel.fmax_hz = 12000.5f;
  card.seconds = 10;
  write(folder / "hop160", lines());
  card.mel.rate_hz = 1000000;
  write(folder / "rate", lines());
}

void config_seeds(const fs::path& folder) {
  for (const char* kind : {"passt", "dense"}) {
    write(folder / (std::string(kind) + ".toml"), apps::to_toml(apps::parse_toml(kind, "", kind)));
  }
  write(folder / "empty.toml", "");
  write(folder / "few.toml", "[train]\nlr = 3e-4\nepochs = 2 # two\n[model]\nhidden = [8, 4]\n");
  write(folder / "dotted.toml",
        "train.loss = 'huber'\ntrain.\"seed\" = 0x10\ndata.seconds = 1.5\n");
  write(folder / "wrong.toml", "[train]\nlr = nan\nlr = 2\n[[model]]\nx = { a = 1979-05-27 }\n");
}

}  // namespace
}  // namespace onpa

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: onpa_fuzz_seeds FOLDER\n", stderr);
    return 64;
  }
  const std::filesystem::path folder = argv[1];
  onpa::audio_seeds(folder / "audio");
  onpa::safetensors_seeds(folder / "safetensors");
  onpa::manifest_seeds(folder / "manifest");
  onpa::card_seeds(folder / "card");
  onpa::config_seeds(folder / "config");
}
