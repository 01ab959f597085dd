#include <cctype>
#include <cstring>
#include <limits>

#include "audio/decode.h"
#include "audio/demux.h"
#include "audio/mp3_walk.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

using Bytes = std::span<const std::byte>;

bool has(Bytes bytes, std::size_t at, std::string_view text) {
  return bytes.size() >= at + text.size() &&
         std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

bool is_zero_from(ByteWindow& file, std::uint64_t at) {
  return file.view(file.skip_zeros(at), 1).empty();
}

// What the start of a file that is no audio looks like, for the error message. `head` are its first
// bytes, after tags.
std::string describe_other(Bytes head) {
  std::string lower;
  bool text = true;
  for (const std::byte b : head) {
    const auto c = std::to_integer<unsigned char>(b);
    text = text && (c >= 0x20 || c == '\n' || c == '\r' || c == '\t');
    lower.push_back(static_cast<char>(std::tolower(c)));
  }
  if (lower.starts_with("\xef\xbb\xbf")) lower.erase(0, 3);
  if (lower.starts_with("#extm3u") || lower.starts_with("ffconcat") ||
      lower.starts_with("[playlist]")) {
    return "a playlist, not audio";
  }
  if (text &&
      (lower.find("<html") != std::string::npos || lower.find("<!doctype") != std::string::npos)) {
    return "an HTML page, not audio";
  }
  if (text) return "text, not audio";
  if (head.size() >= 2 && head[0] == std::byte{0xFF} &&
      (std::to_integer<unsigned>(head[1]) & 0xF6) == 0xF0) {
    return "a bare AAC stream (ADTS), which is not supported; put it into an m4a file";
  }
  return "no known audio format (mp3, wav, flac, ogg, m4a)";
}

}  // namespace

Format sniff_format(Bytes bytes, const std::string& name) {
  ByteWindow file(bytes);
  return sniff_format(file, name);
}

Format sniff_format(ByteWindow& file, const std::string& name) {
  const Bytes start = file.view(0, 12);
  if (start.empty()) fail(ExitCode::kBadData, name, ": empty file");
  if ((has(start, 0, "RIFF") || has(start, 0, "RF64")) && has(start, 8, "WAVE"))
    return Format::kWav;
  if (has(start, 0, "OggS")) return Format::kOgg;
  if (has(start, 4, "ftyp")) return Format::kM4a;
  // What a pipe's tags hold is kept, as the demuxers read them again.
  constexpr std::uint64_t kMaxPipeTags = std::uint64_t{64} << 20;
  const std::uint64_t tags = id3v2_bytes(
      file, file.is_seekable() ? std::numeric_limits<std::uint64_t>::max() : kMaxPipeTags);
  if (!file.is_seekable() && tags > kMaxPipeTags) {
    fail(ExitCode::kBadData, name, ": ID3 tags of ", tags, " bytes or more, want at most ",
         kMaxPipeTags, " where the file cannot be read twice");
  }
  if (tags > 0 && file.view(tags - 1, 1).empty()) {
    fail(ExitCode::kBadData, name, ": tag longer than the file: ID3 states ", tags,
         " bytes, the file has ", file.size());
  }
  if (has(file.view(tags, 4), 0, "fLaC")) return Format::kFlac;
  // Some writers leave padding between tag and audio.
  constexpr std::uint64_t kMaxPadding = 1 << 16;
  if (find_mpeg_frame(file, tags, kMaxPadding)) return Format::kMp3;
  // A file cut inside its first frame is still an mp3, for a better message.
  const auto header = parse_mpeg_header(file.view(tags, 4));
  if (header) {
    const std::size_t have = file.view(tags, static_cast<std::size_t>(header->bytes)).size();
    if (have < static_cast<std::size_t>(header->bytes)) {
      fail(ExitCode::kBadData, name, ": truncated: ", have, " of the ", header->bytes,
           " bytes of its first frame");
    }
  }
  const Bytes head = file.view(tags, 512);
  const std::string other = describe_other(head);
  if (is_zero_from(file, tags)) {
    fail(ExitCode::kBadData, name, ": ",
         tags > 0 ? "an ID3 tag and no audio after it" : "only zero bytes");
  }
  fail(ExitCode::kBadData, name, ": ", other);
}

}  // namespace onpa::audio
