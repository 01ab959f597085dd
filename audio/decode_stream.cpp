#include "audio/decode_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "audio/byte_window.h"
#include "audio/demux.h"
#include "audio/ffmpeg.h"
#include "audio/frame_sink.h"
#include "audio/resample.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr std::int64_t kBlock = 8192;  // samples of the file

int open_file(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    fail(ExitCode::kInputMissing, name, ": no such file");
  }
  if (std::filesystem::is_directory(path, error)) fail(ExitCode::kIo, name, ": is a directory");
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(ExitCode::kIo, name, ": cannot be opened: ", std::strerror(errno));
  return descriptor;
}

}  // namespace

struct DecodeStream::State {
  template <class Source>
  State(Source source, std::string shown, const DecodeOptions& given)
      : name(std::move(shown)), options(given), file(open(source)) {
    ONPA_CHECK(options.rate_hz >= 1, "decode: a rate of ", options.rate_hz, " Hz");
    prepare_ffmpeg();
    reader = open_reader(*file, sniff_format(*file, name), name, options);
    skip = static_cast<std::int64_t>(reader->sink().pcm().skip);
  }

  std::unique_ptr<ByteWindow> open(int descriptor) {
    return std::make_unique<ByteWindow>(descriptor, name);
  }
  std::unique_ptr<ByteWindow> open(std::span<const std::byte> bytes) {
    return std::make_unique<ByteWindow>(bytes);
  }

  bool read(std::vector<float>& out);
  bool take(std::vector<float>& out);

  std::string name;
  DecodeOptions options;
  std::unique_ptr<ByteWindow> file;
  std::unique_ptr<PcmReader> reader;
  std::optional<StreamResampler> resampler;
  std::int64_t skip = 0;   // samples still to drop at the start
  std::int64_t heard = 0;  // samples of the file that went into the resampler
  std::int64_t given = 0;
  bool ended = false;
};

// Hands what the sink holds for good to the resampler; true if that was a block.
bool DecodeStream::State::take(std::vector<float>& out) {
  FrameSink& sink = reader->sink();
  std::int64_t ready = std::ssize(sink.pcm().samples) - (ended ? 0 : reader->held());
  if (ready <= 0 || (ready < kBlock && !ended)) return false;
  const std::int64_t delay = std::min(skip, ready);
  skip -= delay;
  const auto audio =
      std::span<const float>(sink.pcm().samples)
          .subspan(static_cast<std::size_t>(delay), static_cast<std::size_t>(ready - delay));
  check_finite(audio, heard, name);
  if (!audio.empty()) {
    if (!resampler) resampler.emplace(sink.pcm().rate_hz, options.rate_hz);
    resampler->push(audio, out);
    heard += std::ssize(audio);
  }
  sink.drop(ready);
  return true;
}

bool DecodeStream::State::read(std::vector<float>& out) {
  const std::size_t before = out.size();
  while (!ended && out.size() == before) {
    ended = !reader->advance();
    take(out);
    if (!ended) continue;
    if (heard == 0) fail(ExitCode::kBadData, name, ": no audio in the file");
    const double seconds = static_cast<double>(heard) / reader->sink().pcm().rate_hz;
    if (seconds < options.min_seconds) {
      fail(ExitCode::kBadData, name, ": ", seconds, " s of audio, want at least ",
           options.min_seconds);
    }
    resampler->finish(out);
  }
  given += static_cast<std::int64_t>(out.size() - before);
  return out.size() > before;
}

DecodeStream::DecodeStream(const std::filesystem::path& path, const DecodeOptions& options)
    : state_(std::make_unique<State>(open_file(path), path.string(), options)) {}
DecodeStream::DecodeStream(int descriptor, std::string name, const DecodeOptions& options)
    : state_(std::make_unique<State>(descriptor, std::move(name), options)) {}
DecodeStream::DecodeStream(std::span<const std::byte> bytes, std::string name,
                           const DecodeOptions& options)
    : state_(std::make_unique<State>(bytes, std::move(name), options)) {}
DecodeStream::~DecodeStream() = default;

bool DecodeStream::read(std::vector<float>& out) {
  return state_->read(out);
}
std::int64_t DecodeStream::samples() const {
  return state_->given;
}

}  // namespace onpa::audio
