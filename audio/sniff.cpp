#include <algorithm>
#include <cstring>
#include <string_view>

#include "audio/decode.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr std::size_t kId3HeaderBytes = 10;

unsigned byte_at(std::span<const std::byte> bytes, std::size_t i) {
  return static_cast<unsigned>(bytes[i]);
}

bool starts_with(std::span<const std::byte> bytes, std::size_t offset, std::string_view text) {
  return bytes.size() >= offset + text.size() &&
         std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

// An MPEG audio layer III frame header whose fields are all legal.
bool is_mp3_header(std::span<const std::byte> bytes) {
  if (bytes.size() < 4) return false;
  const unsigned b1 = byte_at(bytes, 1), b2 = byte_at(bytes, 2);
  return byte_at(bytes, 0) == 0xFF && (b1 & 0xE0) == 0xE0 && (b1 & 0x18) != 0x08 &&
         (b1 & 0x06) == 0x02 && (b2 & 0xF0) != 0xF0 && (b2 & 0xF0) != 0 && (b2 & 0x0C) != 0x0C;
}

// Bytes that the ID3v2 tags at the front take; throws if a tag claims more than the file has.
std::size_t id3_bytes(std::span<const std::byte> bytes, const std::string& name) {
  std::size_t offset = 0;
  while (starts_with(bytes, offset, "ID3") && bytes.size() >= offset + kId3HeaderBytes) {
    std::size_t size = 0;
    for (std::size_t i = 6; i < kId3HeaderBytes; ++i) {
      size = size << 7 | (byte_at(bytes, offset + i) & 0x7F);
    }
    const bool footer = byte_at(bytes, offset + 5) & 0x10;
    const std::size_t end = offset + kId3HeaderBytes * (footer ? 2 : 1) + size;
    if (end > bytes.size()) {
      fail(ExitCode::kBadData, name, ": the ID3 tag claims ", size, " bytes, the file has ",
           bytes.size());
    }
    offset = end;
  }
  return offset;
}

const char* describe(std::span<const std::byte> bytes) {
  if (starts_with(bytes, 0, "#EXTM3U") || starts_with(bytes, 0, "ffconcat") ||
      starts_with(bytes, 0, "[playlist]")) {
    return "a playlist";
  }
  const std::size_t n = std::min<std::size_t>(bytes.size(), 512);
  const auto head = bytes.first(n);
  if (std::ranges::all_of(head, [](std::byte b) { return b == std::byte{0}; })) {
    return "only zero bytes";
  }
  const bool text = std::ranges::all_of(head, [](std::byte b) {
    const unsigned c = static_cast<unsigned>(b);
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c != 0x7F);
  });
  return text ? "text" : "no known audio format";
}

}  // namespace

Format sniff_format(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.empty()) fail(ExitCode::kBadData, name, ": the file is empty");
  if (starts_with(bytes, 0, "RIFF") && starts_with(bytes, 8, "WAVE")) return Format::kWav;
  if (starts_with(bytes, 0, "OggS")) return Format::kOgg;
  if (starts_with(bytes, 4, "ftyp")) return Format::kM4a;
  const std::size_t tags = id3_bytes(bytes, name);
  const auto body = bytes.subspan(tags);
  if (starts_with(body, 0, "fLaC")) return Format::kFlac;
  if (tags > 0 && body.empty()) {
    fail(ExitCode::kBadData, name, ": only an ID3 tag, no audio");
  }
  // Padding may lie between a tag and the first frame.
  std::size_t start = 0;
  if (tags > 0) {
    while (start < body.size() && body[start] == std::byte{0}) ++start;
  }
  if (is_mp3_header(body.subspan(start))) return Format::kMp3;
  fail(ExitCode::kBadData, name,
       ": not audio that onpa reads (mp3, wav, flac, ogg, m4a): it holds ", describe(body));
}

}  // namespace onpa::audio
