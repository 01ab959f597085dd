#include "apps/inference/clip_source.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "apps/support/inputs.h"
#include "audio/decode_stream.h"
#include "kernels/error.h"

namespace onpa::apps {

SampleSource open_clip(const std::string& input, const ModelCard& card, double max_seconds) {
  audio::DecodeOptions options;
  options.rate_hz = card.mel.rate_hz;
  options.min_seconds = 0;  // what is under one patch is padded
  options.max_seconds = max_seconds > 0 ? max_seconds : std::numeric_limits<double>::infinity();
  std::shared_ptr<audio::DecodeStream> stream;
  if (input == kStandardInput) {
    const int descriptor = ::dup(STDIN_FILENO);
    if (descriptor < 0) fail(ExitCode::kIo, "standard input: ", std::strerror(errno));
    stream = std::make_shared<audio::DecodeStream>(descriptor, "standard input", options);
  } else {
    stream = std::make_shared<audio::DecodeStream>(std::filesystem::path(input), options);
  }
  return [stream](std::vector<float>& out) { return stream->read(out); };
}

}  // namespace onpa::apps
