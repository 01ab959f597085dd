#include "audio/mel.h"

#include <filesystem>

#include "apps/commands/commands.h"
#include "apps/support/log.h"
#include "audio/decode.h"
#include "kernels/error.h"
#include "tensor/io/npy.h"

namespace onpa::apps {

int run_mel(const MelArgs& args) {
  if (std::filesystem::is_directory(args.input)) {
    fail(ExitCode::kBadData, args.input, ": is a folder, want one audio file");
  }
  audio::MelConfig config;
  config.mels = args.mels;
  audio::DecodeOptions options;
  options.rate_hz = config.rate_hz;
  const audio::Clip clip = audio::decode_file(args.input, options);
  const auto samples = static_cast<std::int64_t>(clip.samples.size());
  const Tensor mel = audio::log_mel(Tensor::from<float>({1, samples}, clip.samples), config);
  io::write_npy(args.out, mel.view({mel.size(1), mel.size(2)}));
  spdlog::info("{}: float32 ({}, {})", args.out, mel.size(1), mel.size(2));
  return 0;
}

}  // namespace onpa::apps
