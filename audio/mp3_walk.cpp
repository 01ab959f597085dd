#include "audio/mp3_walk.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "audio/big_endian.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

using Bytes = std::span<const std::byte>;

bool starts_with(Bytes b, std::size_t at, std::string_view text) {
  return at <= b.size() && b.size() - at >= text.size() &&
         std::memcmp(b.data() + at, text.data(), text.size()) == 0;
}

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

constexpr std::size_t kTrailerName = 11;

bool is_trailer_name(Bytes bytes) {
  return starts_with(bytes, 0, "TAG") || starts_with(bytes, 0, "APETAGEX") ||
         starts_with(bytes, 0, "LYRICSBEGIN") || starts_with(bytes, 0, "ID3");
}

// Bytes that the ID3v2 tag at `at` claims; 0 if there is none.
std::uint64_t id3v2_bytes_at(ByteWindow& file, std::uint64_t at) {
  const Bytes tag = file.view(at, 10);
  if (tag.size() < 10 || !starts_with(tag, 0, "ID3")) return 0;
  std::uint64_t size = 0;
  for (std::size_t i = 6; i < 10; ++i) size = size << 7 | (u8(tag, i) & 0x7F);
  const bool footer = u8(tag, 5) & 0x10;
  return 10 + size + (footer ? 10 : 0);
}

// Bytes of the tag at `at` as far as its first ones tell; 0 if there is none.
std::uint64_t trailer_bytes(ByteWindow& file, std::uint64_t at) {
  constexpr std::uint64_t kId3v1 = 128, kId3v1Enhanced = 227, kApeEnd = 32;
  if (const std::uint64_t id3v2 = id3v2_bytes_at(file, at)) return id3v2;
  const Bytes tag = file.view(at, kApeEnd);
  if (!is_trailer_name(tag)) return 0;
  if (starts_with(tag, 0, "TAG+")) return kId3v1Enhanced;
  if (starts_with(tag, 0, "TAG")) return kId3v1;
  if (starts_with(tag, 0, "APETAGEX") && tag.size() == kApeEnd) {
    const bool is_header = u8(tag, 23) & 0x20;  // else the end of a tag that lies before it
    const std::uint32_t rest =
        u8(tag, 15) << 24 | u8(tag, 14) << 16 | u8(tag, 13) << 8 | u8(tag, 12);
    return kApeEnd + (is_header ? rest : 0);
  }
  return std::min(kTrailerName, tag.size());
}

// Tags and zero bytes may follow the last frame. So many zeros that a pipe should not hold them
// count as such.
bool is_trailer(ByteWindow& file, std::uint64_t at) {
  constexpr std::uint64_t kManyZeros = 1 << 20;
  constexpr std::size_t kStep = 4096;
  if (is_trailer_name(file.view(at, kTrailerName))) return true;
  for (std::uint64_t seen = 0; seen < kManyZeros; seen += kStep) {
    const Bytes bytes = file.view(at + seen, kStep);
    if (!std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; })) return false;
    if (bytes.size() < kStep) return true;
  }
  return true;
}

std::optional<MpegHeader> header_at(ByteWindow& file, std::uint64_t at) {
  return parse_mpeg_header(file.view(at, 4));
}

std::string describe(const MpegHeader& h) {
  return detail::concat(h.rate_hz, " Hz ", h.mono ? "mono" : "stereo", " (MPEG ",
                        h.version == 25  ? "2.5"
                        : h.version == 2 ? "2"
                                         : "1",
                        " layer ", h.layer, ")");
}

// Whether what `header` describes lies at `at` and something that may follow a frame after it.
bool is_followed(ByteWindow& file, std::uint64_t at, const MpegHeader& header) {
  const auto length = static_cast<std::size_t>(header.bytes);
  const std::size_t have = file.view(at, length + 1).size();
  if (have <= length) return have == length;
  const auto second = header_at(file, at + length);
  return (second && second->same_stream(header)) || is_trailer(file, at + length);
}

// One odd header is damage; three in a row are a stream.
bool begins_stream(ByteWindow& file, std::uint64_t at) {
  const auto first = header_at(file, at);
  std::uint64_t next = at;
  for (int i = 0; i < 3; ++i) {
    const auto h = header_at(file, next);
    if (!h || !h->same_stream(*first)) return false;
    next += static_cast<std::uint64_t>(h->bytes);
  }
  return true;
}

}  // namespace

std::uint64_t id3v2_bytes(ByteWindow& file, std::uint64_t limit) {
  std::uint64_t at = 0;
  while (at <= limit) {
    const std::uint64_t tag = id3v2_bytes_at(file, at);
    if (tag == 0) break;
    at += tag;
  }
  return at;
}

std::optional<std::uint64_t> find_mpeg_frame(ByteWindow& file, std::uint64_t from,
                                             std::uint64_t limit, bool forget) {
  constexpr std::size_t kStep = 4096;
  const std::uint64_t end = limit < std::numeric_limits<std::uint64_t>::max() - from
                                ? from + limit
                                : std::numeric_limits<std::uint64_t>::max();
  std::vector<std::byte> block;
  for (std::uint64_t at = from; at < end; at += block.size()) {
    if (forget) file.forget(at);
    const Bytes seen =
        file.view(at, static_cast<std::size_t>(std::min<std::uint64_t>(kStep, end - at)));
    if (seen.empty()) return std::nullopt;
    block.assign(seen.begin(), seen.end());  // a candidate's look ahead may move the view
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (block[i] != std::byte{0xFF}) continue;
      const auto header = header_at(file, at + i);
      if (header && is_followed(file, at + i, *header)) return at + i;
    }
  }
  return std::nullopt;
}

Mp3Walk::Mp3Walk(ByteWindow& file, const std::string& name) : file_(file), name_(name) {
  const auto first =
      find_mpeg_frame(file, id3v2_bytes(file), std::numeric_limits<std::uint64_t>::max(), true);
  if (!first) fail(ExitCode::kBadData, name, ": no MPEG audio frame");
  at_ = *first;
  header_ = *header_at(file, at_);
  const auto length = static_cast<std::size_t>(header_.bytes);
  const auto tag = parse_xing(file.view(at_, length), header_);
  if (!tag) return;
  at_ += length;
  stated_ = tag->frames.value_or(0);
  if (tag->delay < 0) return;
  constexpr std::int64_t kDecoderDelay = 529;
  skip_start_ = tag->delay + kDecoderDelay;
  skip_end_ = std::max<std::int64_t>(0, tag->padding - kDecoderDelay);
}

std::optional<MpegFrame> Mp3Walk::next() {
  for (;;) {
    file_.forget(at_);
    const Bytes head = file_.view(at_, 4);
    if (head.empty()) return end();
    const auto header = parse_mpeg_header(head);
    if (!header || !header->same_stream(header_)) {
      if (!cross_gap()) return end();
      continue;
    }
    const auto length = static_cast<std::size_t>(header->bytes);
    const std::size_t have = file_.view(at_, length).size();
    if (have < length) {
      damage_.push_back(detail::concat("truncated: the last frame, at byte ", at_, ", has ", have,
                                       " of ", length, " bytes"));
      return end();
    }
    ++found_;
    return MpegFrame{std::exchange(at_, at_ + length), header->bytes};
  }
}

// Goes on to the next frame from where there is none; false if the audio ends here.
bool Mp3Walk::cross_gap() {
  refuse_change(at_);
  const std::uint64_t hole = at_;
  bool has_tags = false;
  std::uint64_t other = file_.skip_zeros(hole);
  while (const std::uint64_t tag = trailer_bytes(file_, other)) {
    has_tags = true;
    other = file_.skip_zeros(other + tag);
  }
  if (file_.view(other, 1).empty()) return false;
  if (has_tags) {
    const auto second = find_stream(other);
    if (!second) return false;
    refuse_change(*second);
    damage_.push_back(detail::concat("a second stream begins at byte ", *second));
    at_ = *second;
    return true;
  }
  const auto next = find_frame(std::max(other, hole + 1));
  if (next) refuse_change(*next);
  damage_.push_back(detail::concat(next.value_or(file_.size()) - hole, " bytes at byte ", hole,
                                   " are not MPEG frames"));
  if (!next) return false;
  at_ = *next;
  return true;
}

// The next frame, as far as it may be away: what cannot be looked at anywhere may never end.
std::optional<std::uint64_t> Mp3Walk::find_frame(std::uint64_t from) {
  constexpr std::uint64_t kMostPipeGap = 16 << 20, kUnlimited = ~std::uint64_t{0};
  const auto found =
      find_mpeg_frame(file_, from, file_.is_seekable() ? kUnlimited : kMostPipeGap, true);
  if (!found && !file_.is_seekable() && !file_.view(from + kMostPipeGap, 1).empty()) {
    fail(ExitCode::kBadData, name_, ": no MPEG audio frame in ", kMostPipeGap >> 20,
         " MiB from byte ", from, " on");
  }
  return found;
}

// The next frame that begins a stream: what lies behind a tag may look like one frame.
std::optional<std::uint64_t> Mp3Walk::find_stream(std::uint64_t from) {
  for (auto at = find_frame(from); at; at = find_frame(*at + 1)) {
    if (begins_stream(file_, *at)) return at;
  }
  return std::nullopt;
}

// Fails if what starts at `at` is a stream of its own with other parameters.
void Mp3Walk::refuse_change(std::uint64_t at) {
  const auto other = header_at(file_, at);
  if (!other || other->same_stream(header_) || !begins_stream(file_, at)) return;
  fail(ExitCode::kBadData, name_, ": the stream changes from ", describe(header_), " to ",
       describe(*other), " at byte ", at);
}

std::optional<MpegFrame> Mp3Walk::end() {
  if (found_ == 0) {
    fail(ExitCode::kBadData, name_, ": no MPEG audio frame after the header frame");
  }
  // Some encoders count the tag frame itself.
  if (stated_ > 0 && std::abs(found_ - stated_) > 1) {
    damage_.push_back(detail::concat(found_ < stated_ ? "truncated: " : "", "the header states ",
                                     stated_, " frames, the file has ", found_));
  }
  return std::nullopt;
}

std::vector<std::string> Mp3Walk::take_damage() {
  return std::exchange(damage_, {});
}

Mp3Layout scan_mp3(Bytes bytes, const std::string& name) {
  ByteWindow file(bytes);
  Mp3Walk walk(file, name);
  Mp3Layout layout;
  layout.header = walk.header();
  while (const auto frame = walk.next()) layout.frames.push_back(*frame);
  layout.skip_start = walk.skip_start();
  layout.skip_end = walk.skip_end();
  layout.damage = walk.take_damage();
  return layout;
}

}  // namespace onpa::audio
