// What the tests of faults need and Python's standard library lacks.
//   clips FOLDER N    N mp3s of 0.5 s, clip0.mp3 ...
//   seal CHECKPOINT   a manifest that fits the files of a checkpoint as they are
//   find              for each line of stdin, a folder of checkpoints: "STEP HASH" of the newest
//   that
//                     is whole and finite, or "none"
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "audio/encode.h"
#include "nn/checkpoint.h"
#include "nn/manifest.h"

namespace {

namespace fs = std::filesystem;

void make_clips(const fs::path& folder, int count) {
  fs::create_directories(folder);
  for (int i = 0; i < count; ++i) {
    onpa::audio::Clip clip;
    clip.samples.resize(16000);
    const double hz = 300.0 * std::exp2(i % 40 / 20.0);
    for (std::size_t s = 0; s < clip.samples.size(); ++s) {
      clip.samples[s] =
          static_cast<float>(0.3 * std::sin(6.283185307 * hz * static_cast<double>(s) / 32000));
    }
    const auto bytes = onpa::audio::encode_mp3(clip, 64);
    std::ofstream(folder / ("clip" + std::to_string(i) + ".mp3"), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  }
}

void seal(const fs::path& folder) {
  std::ifstream in(folder / onpa::nn::kManifestName);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  onpa::nn::Manifest manifest = onpa::nn::parse_manifest(text);
  for (auto& [name, file] : manifest.files) file = onpa::nn::measure_file(folder / name);
  std::ofstream(folder / onpa::nn::kManifestName) << onpa::nn::format_manifest(manifest);
}

void find() {
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::string> skipped;
    const auto found = onpa::nn::find_checkpoint(line, skipped);
    if (found) {
      const auto weights = onpa::nn::measure_file(found->folder / "model.safetensors");
      std::printf("%lld %s\n", static_cast<long long>(found->content.step),
                  weights.xxh3_64.c_str());
    } else {
      std::printf("none\n");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  try {
    if (args.size() == 3 && args[0] == "clips") {
      make_clips(args[1], std::stoi(args[2]));
    } else if (args.size() == 2 && args[0] == "seal") {
      seal(args[1]);
    } else if (args.size() == 1 && args[0] == "find") {
      find();
    } else {
      return 64;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
