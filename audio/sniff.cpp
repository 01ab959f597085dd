#include <algorithm>
#include <cctype>
#include <cstring>

#include "audio/decode.h"
#include "audio/mp3_frames.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

using Bytes = std::span<const std::byte>;

bool has(Bytes bytes, std::size_t at, std::string_view text) {
  return bytes.size() >= at + text.size() &&
         std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

// What the start of a file that is no audio looks like, for the error message.
std::string describe_other(Bytes bytes) {
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return "only zero bytes";
  }
  std::string head;
  bool text = true;
  for (const std::byte b : bytes.first(std::min<std::size_t>(bytes.size(), 512))) {
    const auto c = std::to_integer<unsigned char>(b);
    text = text && (c >= 0x20 || c == '\n' || c == '\r' || c == '\t');
    head.push_back(static_cast<char>(std::tolower(c)));
  }
  if (head.starts_with("\xef\xbb\xbf")) head.erase(0, 3);
  if (head.starts_with("#extm3u") || head.starts_with("ffconcat") ||
      head.starts_with("[playlist]")) {
    return "a playlist, not audio";
  }
  if (text &&
      (head.find("<html") != std::string::npos || head.find("<!doctype") != std::string::npos)) {
    return "an HTML page, not audio";
  }
  if (text) return "text, not audio";
  if (bytes.size() >= 2 && bytes[0] == std::byte{0xFF} &&
      (std::to_integer<unsigned>(bytes[1]) & 0xF6) == 0xF0) {
    return "a bare AAC stream (ADTS), which is not supported; put it into an m4a file";
  }
  return "no known audio format (mp3, wav, flac, ogg, m4a)";
}

}  // namespace

Format sniff_format(Bytes bytes, const std::string& name) {
  if (bytes.empty()) fail(ExitCode::kBadData, name, ": empty file");
  if ((has(bytes, 0, "RIFF") || has(bytes, 0, "RF64")) && has(bytes, 8, "WAVE"))
    return Format::kWav;
  if (has(bytes, 0, "OggS")) return Format::kOgg;
  if (has(bytes, 4, "ftyp")) return Format::kM4a;
  const std::uint64_t tags = id3v2_bytes(bytes);
  if (tags > bytes.size()) {
    fail(ExitCode::kBadData, name, ": tag longer than the file: ID3 states ", tags,
         " bytes, the file has ", bytes.size());
  }
  const Bytes rest = bytes.subspan(static_cast<std::size_t>(tags));
  if (has(rest, 0, "fLaC")) return Format::kFlac;
  if (tags > 0 &&
      std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; })) {
    fail(ExitCode::kBadData, name, ": an ID3 tag and no audio after it");
  }
  // Some writers leave padding between tag and audio.
  constexpr std::size_t kMaxPadding = 1 << 16;
  const auto first = find_mpeg_frame(rest, 0, kMaxPadding);
  if (first) return Format::kMp3;
  // A file cut inside its first frame is still an mp3, for a better message.
  const auto header = parse_mpeg_header(rest);
  if (header && static_cast<std::size_t>(header->bytes) > rest.size()) {
    fail(ExitCode::kBadData, name, ": truncated: ", rest.size(), " of the ", header->bytes,
         " bytes of its first frame");
  }
  fail(ExitCode::kBadData, name, ": ", describe_other(rest));
}

}  // namespace onpa::audio
