#include "audio/ogg_pages.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

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

// Bytes of the page that begins here, as far as its header, which may be cut short, tells.
std::size_t page_bytes(std::span<const std::byte> rest) {
  constexpr std::size_t kHeader = 27;
  if (rest.size() < kHeader) return kHeader;
  const auto segments = std::to_integer<std::size_t>(rest[26]);
  if (rest.size() < kHeader + segments) return kHeader + segments;
  std::size_t length = kHeader + segments;
  for (std::size_t i = 0; i < segments; ++i) {
    length += std::to_integer<std::size_t>(rest[kHeader + i]);
  }
  return length;
}

}  // namespace

void OggCheck::feed(std::span<const std::byte> bytes) {
  constexpr std::size_t kStep = 1 << 13;
  for (; !bytes.empty() && !lost_; bytes = bytes.subspan(std::min(kStep, bytes.size()))) {
    const auto part = bytes.first(std::min(kStep, bytes.size()));
    held_.insert(held_.end(), part.begin(), part.end());
    while (take_page()) {
    }
  }
}

// The page at the start of what is held; false if it is not whole, or none.
bool OggCheck::take_page() {
  constexpr unsigned kBegins = 2, kEnds = 4;
  const std::span<const std::byte> rest(held_);
  const std::size_t length = page_bytes(rest);
  if (rest.size() >= 4 && std::memcmp(rest.data(), "OggS", 4) != 0) {
    damage_.push_back(detail::concat("no Ogg page at byte ", at_));
    lost_ = true;
    return false;
  }
  if (length > rest.size()) return false;
  const auto page = rest.first(length);
  if (page_crc(page) != u32_little(page, 22)) {
    damage_.push_back(detail::concat("the page at byte ", at_, " fails its checksum"));
  }
  const auto flags = std::to_integer<unsigned>(page[5]);
  if ((flags & kBegins) && has_body_) {
    fail(ExitCode::kBadData, name_, ": a second stream begins at byte ", at_,
         " (chained Ogg), want one stream");
  }
  has_body_ = has_body_ || !(flags & kBegins);
  bool& end = ended_[u32_little(page, 14)];
  end = end || (flags & kEnds);
  at_ += length;
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(length));
  return true;
}

void OggCheck::finish() {
  if (!lost_ && !held_.empty()) {
    if (held_.size() < 4) {
      damage_.push_back(detail::concat("no Ogg page at byte ", at_));
    } else {
      damage_.push_back(detail::concat("truncated: the last page, at byte ", at_, ", has ",
                                       held_.size(), " of ", page_bytes(held_), " bytes"));
    }
  }
  for (const auto& [serial, end] : ended_) {
    if (!end && damage_.empty()) damage_.push_back("truncated: the stream has no last page");
  }
}

std::vector<std::string> check_ogg(std::span<const std::byte> bytes, const std::string& name) {
  OggCheck check(name);
  check.feed(bytes);
  check.finish();
  return check.damage();
}

}  // namespace onpa::audio
