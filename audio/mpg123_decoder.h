// Decoding of MPEG audio frames through libmpg123. Private to audio/.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "audio/mp3_frames.h"

struct mpg123_handle_struct;

namespace onpa::audio {

class Mpg123Decoder {
 public:
  /// For frames of the stream that `header` is of. Throws Error (kInternal) if this libmpg123 makes
  /// no float samples.
  explicit Mpg123Decoder(const MpegHeader& header);

  /// Samples of the next frame, channels interleaved, full scale 1, valid until the next call: of
  /// header.samples in length a channel, or empty where libmpg123 refuses the frame. A frame whose
  /// data run out is silent from there on.
  std::span<const float> decode(std::span<const std::byte> frame);

 private:
  struct Delete {
    void operator()(mpg123_handle_struct* p) const;
  };
  std::unique_ptr<mpg123_handle_struct, Delete> handle_;
};

}  // namespace onpa::audio
