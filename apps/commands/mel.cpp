#include "audio/mel.h"

#include <filesystem>
#include <vector>

#include "apps/commands/commands.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
#include "audio/decode_stream.h"
#include "kernels/error.h"
#include "tensor/io/npy.h"

namespace onpa::apps {

int run_mel(const MelArgs& args) {
  if (std::filesystem::is_directory(args.input)) {
    fail(ExitCode::kBadData, args.input, ": is a folder, want one audio file");
  }
  keep_inputs({{"--out", args.out}}, {args.input});
  audio::MelConfig config;
  config.mels = args.mels;
  audio::DecodeOptions options;
  options.rate_hz = config.rate_hz;
  audio::DecodeStream stream(std::filesystem::path(args.input), options);
  std::vector<float> samples;
  while (stream.read(samples)) {
  }
  const Tensor wave = Tensor::from<float>({1, stream.samples()}, samples);
  const Tensor mel = audio::log_mel(wave, config);
  io::write_npy(args.out, mel.view({mel.size(1), mel.size(2)}));
  spdlog::info("{}: float32 ({}, {})", args.out, mel.size(1), mel.size(2));
  return 0;
}

}  // namespace onpa::apps
