#include "audio/ogg_pages.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <map>

#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i << 24;
    for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ (crc >> 31 ? 0x04C11DB7u : 0u);
    table[i] = crc;
  }
  return table;
}();

// The checksum of a page, its own four bytes at offset 22 taken as zero.
std::uint32_t page_crc(std::span<const std::byte> page) {
  std::uint32_t crc = 0;
  for (std::size_t i = 0; i < page.size(); ++i) {
    const std::uint32_t byte = i >= 22 && i < 26 ? 0u : std::to_integer<std::uint32_t>(page[i]);
    crc = crc << 8 ^ kCrcTable[crc >> 24 ^ byte];
  }
  return crc;
}

std::uint32_t u32_little(std::span<const std::byte> b, std::size_t i) {
  std::uint32_t v;
  std::memcpy(&v, b.data() + i, sizeof v);
  return v;
}

}  // namespace

std::vector<std::string> check_ogg(std::span<const std::byte> bytes, const std::string& name) {
  constexpr std::size_t kHeader = 27;
  constexpr unsigned kBegins = 2, kEnds = 4;
  std::vector<std::string> damage;
  std::map<std::uint32_t, bool> ended;  // by serial number
  bool has_body = false;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto rest = bytes.subspan(at);
    if (rest.size() < 4 || std::memcmp(rest.data(), "OggS", 4) != 0) {
      damage.push_back(detail::concat("no Ogg page at byte ", at));
      break;
    }
    std::size_t length = kHeader;
    if (rest.size() >= kHeader) {
      const auto segments = std::to_integer<std::size_t>(rest[26]);
      length += segments;
      for (std::size_t i = 0; i < segments && kHeader + i < rest.size(); ++i) {
        length += std::to_integer<std::size_t>(rest[kHeader + i]);
      }
    }
    if (length > rest.size()) {
      damage.push_back(detail::concat("truncated: the last page, at byte ", at, ", has ",
                                      rest.size(), " of ", length, " bytes"));
      break;
    }
    const auto page = rest.first(length);
    if (page_crc(page) != u32_little(page, 22)) {
      damage.push_back(detail::concat("the page at byte ", at, " fails its checksum"));
    }
    const auto flags = std::to_integer<unsigned>(page[5]);
    if ((flags & kBegins) && has_body) {
      fail(ExitCode::kBadData, name, ": a second stream begins at byte ", at,
           " (chained Ogg), want one stream");
    }
    has_body = has_body || !(flags & kBegins);
    bool& end = ended[u32_little(page, 14)];
    end = end || (flags & kEnds);
    at += length;
  }
  for (const auto& [serial, end] : ended) {
    if (!end && damage.empty()) damage.push_back("truncated: the stream has no last page");
  }
  return damage;
}

}  // namespace onpa::audio
