#include "audio/mp3_frames.h"

#include <utility>

#include "audio/big_endian.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

using Bytes = std::span<const std::byte>;

constexpr int kKbps[5][15] = {
    {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},  // 1, layer I
    {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},     // 1, layer II
    {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},      // 1, layer III
    {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},     // 2, layer I
    {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},          // 2, layers II and III
};

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

}  // namespace onpa::audio
