#include "audio/mp3_frames.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/error.h"

namespace onpa::audio {
namespace {

using Bytes = std::span<const std::byte>;

std::uint32_t u8(Bytes b, std::size_t i) {
  return std::to_integer<std::uint32_t>(b[i]);
}
std::uint32_t u32(Bytes b, std::size_t i) {
  return u8(b, i) << 24 | u8(b, i + 1) << 16 | u8(b, i + 2) << 8 | u8(b, i + 3);
}
bool starts_with(Bytes b, std::size_t at, std::string_view text) {
  return at <= b.size() && b.size() - at >= text.size() &&
         std::memcmp(b.data() + at, text.data(), text.size()) == 0;
}

constexpr int kKbps[5][15] = {
    {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},  // 1, layer I
    {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},     // 1, layer II
    {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},      // 1, layer III
    {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},     // 2, layer I
    {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},          // 2, layers II and III
};

// What the tag in the first frame says.
struct XingTag {
  std::optional<std::int64_t> frames;
  std::int64_t delay = -1, padding = -1;  // -1: no LAME extension
};

std::optional<XingTag> parse_xing(Bytes frame, const MpegHeader& header) {
  if (header.layer != 3) return std::nullopt;
  const std::size_t at = header.version == 1 ? (header.mono ? 21 : 36) : (header.mono ? 13 : 21);
  if (starts_with(frame, 36, "VBRI") && frame.size() >= 54) {
    return XingTag{.frames = u32(frame, 50)};
  }
  if (!starts_with(frame, at, "Xing") && !starts_with(frame, at, "Info")) return std::nullopt;
  XingTag tag;
  if (frame.size() < at + 8) return tag;
  const std::uint32_t flags = u32(frame, at + 4);
  std::size_t next = at + 8;
  if ((flags & 1) && frame.size() >= next + 4) tag.frames = u32(frame, next);
  next += (flags & 1 ? 4 : 0) + (flags & 2 ? 4 : 0) + (flags & 4 ? 100 : 0) + (flags & 8 ? 4 : 0);
  const bool has_gapless = starts_with(frame, next, "LAME") || starts_with(frame, next, "Lavf") ||
                           starts_with(frame, next, "Lavc");
  if (has_gapless && frame.size() >= next + 24) {
    const std::uint32_t packed =
        u8(frame, next + 21) << 16 | u8(frame, next + 22) << 8 | u8(frame, next + 23);
    tag.delay = packed >> 12;
    tag.padding = packed & 0xFFF;
  }
  return tag;
}

// Tags and zero bytes may follow the last frame.
bool is_trailer(Bytes bytes, std::size_t at) {
  if (starts_with(bytes, at, "TAG") || starts_with(bytes, at, "APETAGEX") ||
      starts_with(bytes, at, "LYRICSBEGIN") || starts_with(bytes, at, "ID3")) {
    return true;
  }
  return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

std::string describe(const MpegHeader& h) {
  return detail::concat(h.rate_hz, " Hz ", h.mono ? "mono" : "stereo", " (MPEG ",
                        h.version == 25  ? "2.5"
                        : h.version == 2 ? "2"
                                         : "1",
                        " layer ", h.layer, ")");
}

// Fails if what starts at `at` is a stream of its own with other parameters.
void refuse_change(Bytes bytes, std::size_t at, const MpegHeader& header, const std::string& name) {
  const auto other = parse_mpeg_header(bytes.subspan(at));
  if (!other || other->same_stream(header)) return;
  // One odd header is damage; three in a row are another stream.
  std::size_t next = at;
  for (int i = 0; i < 3; ++i) {
    const auto h = next < bytes.size() ? parse_mpeg_header(bytes.subspan(next)) : std::nullopt;
    if (!h || !h->same_stream(*other)) return;
    next += static_cast<std::size_t>(h->bytes);
  }
  fail(ExitCode::kBadData, name, ": the stream changes from ", describe(header), " to ",
       describe(*other), " at byte ", at);
}

void apply_tag(const XingTag& tag, Mp3Layout& layout) {
  const auto found = static_cast<std::int64_t>(layout.frames.size());
  // Some encoders count the tag frame itself.
  if (tag.frames && *tag.frames > 0 && std::abs(found - *tag.frames) > 1) {
    layout.damage.push_back(detail::concat(found < *tag.frames ? "truncated: " : "",
                                           "the header states ", *tag.frames,
                                           " frames, the file has ", found));
  }
  if (tag.delay < 0) return;
  constexpr std::int64_t kDecoderDelay = 529;
  layout.skip_start = tag.delay + kDecoderDelay;
  layout.skip_end = std::max<std::int64_t>(0, tag.padding - kDecoderDelay);
}

// What ISO 13818-3, 2.4.1.7, allows no stream to say; `side` is a layer III frame's side
// information.
std::string find_side_damage(Bytes side, const MpegHeader& header) {
  std::size_t at = 0;
  const auto take = [&](std::size_t bits) {
    std::uint32_t value = 0;
    for (; bits > 0; --bits, ++at) value = value << 1 | (u8(side, at / 8) >> (7 - at % 8) & 1);
    return value;
  };
  const bool mpeg1 = header.version == 1;
  const std::size_t channels = header.mono ? 1 : 2;
  take(mpeg1 ? 9 + (header.mono ? 5 : 3) + 4 * channels : 8 + channels);
  for (std::size_t part = 0; part < channels * (mpeg1 ? 2 : 1); ++part) {
    take(12);
    const std::uint32_t big_values = take(9);
    if (big_values > 288) return detail::concat(big_values, " pairs of big values, at most 288");
    take(mpeg1 ? 12 : 17);
    const bool switches = take(1) != 0;
    if (switches && take(2) == 0) return "a switched window without a block type";
    take((switches ? 20 : 22) + (mpeg1 ? 3 : 2));
  }
  return "";
}

// CRC-16 of the last two bytes of the header and of the side information.
std::uint32_t checksum(Bytes header, Bytes side) {
  std::uint32_t crc = 0xFFFF;
  for (const Bytes part : {header.subspan(2, 2), side}) {
    for (const std::byte byte : part) {
      crc ^= std::to_integer<std::uint32_t>(byte) << 8;
      for (int bit = 0; bit < 8; ++bit)
        crc = crc & 0x8000 ? (crc << 1 ^ 0x8005) & 0xFFFF : crc << 1;
    }
  }
  return crc;
}

}  // namespace

std::optional<FrameDamage> find_layer3_damage(Bytes frame, const MpegHeader& header) {
  const bool has_checksum = (u8(frame, 1) & 1) == 0;
  const std::size_t side_at = has_checksum ? 6 : 4;
  const std::size_t side_bytes =
      header.version == 1 ? (header.mono ? 17 : 32) : (header.mono ? 9 : 17);
  if (frame.size() < side_at + side_bytes) {
    return FrameDamage{detail::concat(frame.size(), " bytes have no room for side information"),
                       true};
  }
  const Bytes side = frame.subspan(side_at, side_bytes);
  if (std::string what = find_side_damage(side, header); !what.empty()) {
    return FrameDamage{std::move(what), true};
  }
  if (has_checksum && checksum(frame, side) != (u8(frame, 4) << 8 | u8(frame, 5))) {
    return FrameDamage{"its checksum does not match", false};
  }
  return std::nullopt;
}

std::optional<MpegHeader> parse_mpeg_header(Bytes bytes) {
  if (bytes.size() < 4) return std::nullopt;
  const std::uint32_t h = u32(bytes, 0);
  const std::uint32_t version = h >> 19 & 3, layer = h >> 17 & 3, kbps = h >> 12 & 15,
                      rate = h >> 10 & 3, padding = h >> 9 & 1, emphasis = h & 3;
  if (h >> 21 != 0x7FF || version == 1 || layer == 0 || kbps == 0 || kbps == 15 || rate == 3 ||
      emphasis == 2) {
    return std::nullopt;
  }
  constexpr int kRateHz[3] = {44100, 48000, 32000};
  MpegHeader out;
  out.version = version == 3 ? 1 : version == 2 ? 2 : 25;
  out.layer = 4 - static_cast<int>(layer);
  out.rate_hz = kRateHz[rate] / (out.version == 1 ? 1 : out.version == 2 ? 2 : 4);
  out.mono = (h >> 6 & 3) == 3;
  const int row = out.version == 1 ? out.layer - 1 : out.layer == 1 ? 3 : 4;
  const std::int64_t bits_per_second = std::int64_t{1000} * kKbps[row][kbps];
  if (out.layer == 1) {
    out.samples = 384;
    out.bytes = (12 * bits_per_second / out.rate_hz + padding) * 4;
  } else {
    out.samples = out.layer == 3 && out.version != 1 ? 576 : 1152;
    out.bytes = out.samples / 8 * bits_per_second / out.rate_hz + padding;
  }
  return out;
}

std::uint64_t id3v2_bytes(Bytes bytes) {
  std::uint64_t at = 0;
  while (at + 10 <= bytes.size() && starts_with(bytes, at, "ID3")) {
    std::uint64_t size = 0;
    for (std::size_t i = 6; i < 10; ++i) size = size << 7 | (u8(bytes, at + i) & 0x7F);
    const bool footer = u8(bytes, at + 5) & 0x10;
    at += 10 + size + (footer ? 10 : 0);
  }
  return at;
}

std::optional<std::size_t> find_mpeg_frame(Bytes bytes, std::size_t from, std::size_t limit) {
  const std::size_t end =
      limit < bytes.size() - std::min(from, bytes.size()) ? from + limit : bytes.size();
  for (std::size_t at = from; at < end; ++at) {
    if (bytes[at] != std::byte{0xFF}) continue;
    const auto header = parse_mpeg_header(bytes.subspan(at));
    if (!header) continue;
    const std::size_t next = at + static_cast<std::size_t>(header->bytes);
    if (next == bytes.size()) return at;
    if (next > bytes.size()) continue;
    const auto second = parse_mpeg_header(bytes.subspan(next));
    if ((second && second->same_stream(*header)) || is_trailer(bytes, next)) return at;
  }
  return std::nullopt;
}

Mp3Layout scan_mp3(Bytes bytes, const std::string& name) {
  Mp3Layout layout;
  const auto tags =
      static_cast<std::size_t>(std::min<std::uint64_t>(id3v2_bytes(bytes), bytes.size()));
  const auto first = find_mpeg_frame(bytes, tags, bytes.size());
  if (!first) fail(ExitCode::kBadData, name, ": no MPEG audio frame");
  layout.header = *parse_mpeg_header(bytes.subspan(*first));
  std::optional<XingTag> tag;
  std::size_t at = *first;
  while (at < bytes.size()) {
    const auto header = parse_mpeg_header(bytes.subspan(at));
    if (header && header->same_stream(layout.header)) {
      if (static_cast<std::size_t>(header->bytes) > bytes.size() - at) {
        layout.damage.push_back(detail::concat("truncated: the last frame, at byte ", at, ", has ",
                                               bytes.size() - at, " of ", header->bytes, " bytes"));
        break;
      }
      const auto length = static_cast<std::size_t>(header->bytes);
      if (at == *first) tag = parse_xing(bytes.subspan(at, length), *header);
      if (at != *first || !tag) layout.frames.push_back({at, header->bytes});
      at += length;
      continue;
    }
    refuse_change(bytes, at, layout.header, name);
    if (is_trailer(bytes, at)) break;
    std::optional<std::size_t> next = find_mpeg_frame(bytes, at + 1, bytes.size());
    if (next) refuse_change(bytes, *next, layout.header, name);
    layout.damage.push_back(detail::concat(next ? *next - at : bytes.size() - at, " bytes at byte ",
                                           at, " are not MPEG frames"));
    if (!next) break;
    at = *next;
  }
  if (tag) apply_tag(*tag, layout);
  if (layout.frames.empty())
    fail(ExitCode::kBadData, name, ": no MPEG audio frame after the header frame");
  return layout;
}

}  // namespace onpa::audio
