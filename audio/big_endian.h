// Numbers in MPEG headers and tags, most significant byte first. Private to audio/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace onpa::audio {

inline std::uint32_t u8(std::span<const std::byte> b, std::size_t i) {
  return std::to_integer<std::uint32_t>(b[i]);
}
inline std::uint32_t u32(std::span<const std::byte> b, std::size_t i) {
  return u8(b, i) << 24 | u8(b, i + 1) << 16 | u8(b, i + 2) << 8 | u8(b, i + 3);
}

}  // namespace onpa::audio
