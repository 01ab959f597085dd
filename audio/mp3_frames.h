// The frame structure of an MPEG audio file, found from the headers alone. Private to audio/.
// Source: ISO 11172-3 and 13818-3 (headers); the public descriptions of the Xing and LAME tags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace onpa::audio {

struct MpegHeader {
  int version = 1;  // 1, 2, or 25 for the unofficial 2.5
  int layer = 3;
  int rate_hz = 0;
  bool mono = false;
  std::int64_t bytes = 0;    // length of the frame with its header
  std::int64_t samples = 0;  // per channel
  bool same_stream(const MpegHeader& other) const {
    return version == other.version && layer == other.layer && rate_hz == other.rate_hz &&
           mono == other.mono;
  }
};

/// The header at the start of `bytes`; nothing if there is none (free-format frames count as none).
std::optional<MpegHeader> parse_mpeg_header(std::span<const std::byte> bytes);

struct FrameDamage {
  std::string what;
  bool is_lost;  // no decoder can make sense of the frame
};

/// What is wrong in the side information of a layer III frame, or with its checksum, if anything.
std::optional<FrameDamage> find_layer3_damage(std::span<const std::byte> frame,
                                              const MpegHeader& header);

struct MpegFrame {
  std::size_t offset;
  std::int64_t bytes;
};

struct Mp3Layout {
  MpegHeader header;              // of the first frame
  std::vector<MpegFrame> frames;  // audio frames, the tag frame left out
  std::int64_t skip_start = 0;    // samples of encoder and decoder delay to drop
  std::int64_t skip_end = 0;      // samples of padding to drop
  std::vector<std::string> damage;
};

/// Walks a file that sniffs as mp3. Damage (holes, a cut-off last frame, fewer frames than the Xing
/// header states) is listed; throws Error (kBadData) naming `name` if there is no frame at all or
/// the stream's rate, channels or layer change on the way.
Mp3Layout scan_mp3(std::span<const std::byte> bytes, const std::string& name);

}  // namespace onpa::audio
