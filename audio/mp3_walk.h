// A walk over the frames of an MPEG audio file that holds a few of them at a time. Private to
// audio/. Source: as mp3_frames.h.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "audio/byte_window.h"
#include "audio/mp3_frames.h"

namespace onpa::audio {

/// Bytes that the ID3v2 tags at the start claim, headers included; may exceed the file. Once they
/// exceed `limit` no more tags are looked for.
std::uint64_t id3v2_bytes(ByteWindow& file,
                          std::uint64_t limit = std::numeric_limits<std::uint64_t>::max());

/// Offset of the first frame at or after `from` that is followed by another of the same stream or
/// ends the file; nothing if none begins within `limit` bytes. With `forget` the file forgets what
/// was searched.
std::optional<std::uint64_t> find_mpeg_frame(ByteWindow& file, std::uint64_t from,
                                             std::uint64_t limit, bool forget = false);

class Mp3Walk {
 public:
  /// `file` sniffs as mp3. Looks as far as the first frame and its tag. Throws Error (kBadData)
  /// naming `name` if there is none.
  Mp3Walk(ByteWindow& file, const std::string& name);

  const MpegHeader& header() const { return header_; }  // of the first frame
  std::int64_t skip_start() const { return skip_start_; }
  std::int64_t skip_end() const { return skip_end_; }
  /// Frames that the tag claims; 0 if none does.
  std::int64_t stated_frames() const { return stated_; }
  /// The next audio frame; nothing at the end. Throws Error (kBadData) if there was none at all or
  /// the stream's rate, channels or layer change.
  std::optional<MpegFrame> next();
  /// The damage met since the last call, the end's after next() has returned nothing.
  std::vector<std::string> take_damage();

 private:
  std::optional<MpegFrame> end();
  bool cross_gap();
  std::optional<std::uint64_t> find_frame(std::uint64_t from);
  std::optional<std::uint64_t> find_stream(std::uint64_t from);
  void refuse_change(std::uint64_t at);

  ByteWindow& file_;
  const std::string& name_;
  MpegHeader header_;
  std::uint64_t at_ = 0;
  std::int64_t found_ = 0, stated_ = 0;  // frames; stated_ is 0 where no tag says it
  std::int64_t skip_start_ = 0, skip_end_ = 0;
  std::vector<std::string> damage_;
};

}  // namespace onpa::audio
