#include "audio/decode.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "audio/demux.h"
#include "audio/ffmpeg.h"
#include "audio/frame_sink.h"
#include "audio/resample.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr std::size_t kBlock = 256;

constexpr float kLargest = 1e6f;

// Loops of a length known when compiling become vector instructions.
bool block_is_good(const float* samples) {
  constexpr std::int32_t kMagnitude = 0x7FFFFFFF, kMost = std::bit_cast<std::int32_t>(kLargest);
  std::int32_t bad = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    // Magnitudes are in the order of their bits, infinities and NaNs last.
    bad |= (std::bit_cast<std::int32_t>(samples[i]) & kMagnitude) > kMost ? -1 : 0;
  }
  return bad == 0;
}

}  // namespace

void check_finite(std::span<const float> samples, std::int64_t first, const std::string& name) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (i % kBlock == 0) {
      while (samples.size() - i >= kBlock && block_is_good(samples.data() + i)) i += kBlock;
      if (i == samples.size()) return;
    }
    if (!std::isfinite(samples[i])) {
      fail(ExitCode::kBadData, name, ": sample ", first + static_cast<std::int64_t>(i),
           " is not a finite number");
    }
    if (std::abs(samples[i]) > kLargest) {
      fail(ExitCode::kBadData, name, ": sample ", first + static_cast<std::int64_t>(i), " is ",
           samples[i], ", want at most ", kLargest, " where 1 is full scale");
    }
  }
}

std::unique_ptr<PcmReader> open_reader(ByteWindow& file, Format format, const std::string& name,
                                       const DecodeOptions& options) {
  return format == Format::kMp3 ? open_mp3(file, name, options)
                                : open_container(file, format, name, options);
}

Clip decode(std::span<const std::byte> bytes, const std::string& name,
            const DecodeOptions& options) {
  ONPA_CHECK(options.rate_hz >= 1, "decode: a rate of ", options.rate_hz, " Hz");
  prepare_ffmpeg();
  ByteWindow file(bytes);
  const auto reader = open_reader(file, sniff_format(file, name), name, options);
  Pcm& pcm = reader->sink().pcm();
  pcm.samples.reserve(static_cast<std::size_t>(reader->expected_samples()));
  while (reader->advance()) {
  }
  const std::span<const float> audio = pcm.audio();
  if (audio.empty()) fail(ExitCode::kBadData, name, ": no audio in the file");
  const double seconds = static_cast<double>(audio.size()) / pcm.rate_hz;
  if (seconds < options.min_seconds) {
    fail(ExitCode::kBadData, name, ": ", seconds, " s of audio, want at least ",
         options.min_seconds);
  }
  check_finite(audio, 0, name);
  return {.samples = resample(audio, pcm.rate_hz, options.rate_hz), .rate_hz = options.rate_hz};
}

Clip decode_file(const std::filesystem::path& path, const DecodeOptions& options) {
  const std::string name = path.string();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    fail(ExitCode::kInputMissing, name, ": no such file");
  }
  if (std::filesystem::is_directory(path, error)) fail(ExitCode::kIo, name, ": is a directory");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) fail(ExitCode::kIo, name, ": cannot be opened: ", std::strerror(errno));
  constexpr std::size_t kMaxBytes = std::size_t{1} << 30, kStep = std::size_t{1} << 20;
  const auto stated = std::filesystem::file_size(path, error);
  // One byte more than the file has shows its end in the first read.
  std::size_t room =
      error ? kStep : static_cast<std::size_t>(std::min<std::uintmax_t>(stated, kMaxBytes)) + 1;
  std::vector<std::byte> bytes;
  for (;; room = kStep) {
    const std::size_t before = bytes.size();
    bytes.resize(before + room);
    const std::size_t got = std::fread(bytes.data() + before, 1, room, file.get());
    bytes.resize(before + got);
    if (bytes.size() > kMaxBytes) fail(ExitCode::kBadData, name, ": larger than 1 GiB");
    if (got < room) break;
  }
  if (std::ferror(file.get())) fail(ExitCode::kIo, name, ": cannot be read");
  return decode(bytes, name, options);
}

}  // namespace onpa::audio
