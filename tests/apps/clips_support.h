// Short clips, and a small classifier that hears a second at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "apps/inference/model_card.h"
#include "nn/passt.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/run_command.h"
#include "tests/support/hash_fill.h"

namespace onpa::testing {

// A mono wav of 16 bits at 32 kHz.
inline void write_wav(const std::filesystem::path& path, std::int64_t samples) {
  std::string bytes = "RIFF....WAVEfmt ";
  const auto put = [&](std::uint32_t value, int count) {
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  };
  put(16, 4), put(1, 2), put(1, 2), put(32000, 4), put(64000, 4), put(2, 2), put(16, 2);
  bytes += "data";
  put(static_cast<std::uint32_t>(2 * samples), 4);
  for (std::int64_t i = 0; i < samples; ++i) {
    const float v = hash_uniform(7, static_cast<std::uint32_t>(i));
    put(static_cast<std::uint32_t>(static_cast<std::int32_t>(8000 * v)), 2);
  }
  const auto size = static_cast<std::uint32_t>(bytes.size() - 8);
  std::memcpy(bytes.data() + 4, &size, sizeof size);
  write_bytes(path, std::string_view(bytes));
}

class Clips : public ::testing::Test {
 protected:
  Clips() : model_(path("model.safetensors")) {
    nn::PasstConfig config;
    config.width = 64;
    config.heads = 1;
    config.depth = 1;
    config.mlp = 256;
    config.table_t = 9;  // a second
    config.outputs = 527;
    nn::Passt model(config);
    hash_fill_parameters(model);
    io::NamedTensors tensors;
    for (const auto& p : model.parameters()) tensors.emplace_back(p.name, p.tensor.detach());
    // As a published file, but with its front end written down: 9 columns are no published length.
    apps::ModelCard card;
    card.kind = "passt";
    card.passt = config;
    io::write_safetensors(model_, tensors, card.metadata());
    write_wav(path("a/short.wav"), 16000);
    write_wav(path("a/long.wav"), 33000);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  CommandResult run(std::vector<std::string> args) {
    args.insert(args.begin() + 1, {"--model", model_});
    return run_command(args);
  }
  // The same with a file as standard input, through a pipe.
  CommandResult piped(const std::string& input, const std::vector<std::string>& args) {
    std::string line =
        "cat '" + input + "' | '" ONPA_COMMAND "' " + args[0] + " --model '" + model_ + "'";
    for (std::size_t i = 1; i < args.size(); ++i) line += " '" + args[i] + "'";
    return Command("/bin/sh", {"-c", line}, {}).wait();
  }

  TempFolder folder_;
  std::string model_;
};

}  // namespace onpa::testing
