// Collects decoded frames as mono PCM and enforces what decode() promises. Private to audio/.
#pragma once

#include <string>

#include "audio/demux.h"
#include "audio/ffmpeg.h"

namespace onpa::audio {

class FrameSink {
 public:
  FrameSink(const std::string& name, const DecodeOptions& options)
      : name_(name), options_(options) {}

  /// Appends a frame. Throws Error (kBadData) if it differs from the first in rate or channels, if
  /// its rate or sample format is out of bounds, or if the file exceeds options.max_seconds.
  void append(const AVFrame& frame);
  /// Notes an error; throws it as Error (kBadData) at once unless options.tolerate_errors.
  void damaged(const std::string& what);
  /// Sends `packet` (null at the end) and appends every frame that comes out. Returns the samples
  /// appended.
  std::int64_t decode(AVCodecContext* decoder, const AVPacket* packet);

  Pcm& pcm() { return pcm_; }
  /// Samples appended in all, those included that were taken out.
  std::int64_t total() const { return taken_ + static_cast<std::int64_t>(pcm_.samples.size()); }
  /// Takes the first `count` of the samples at hand out.
  void drop(std::int64_t count);

 private:
  const std::string& name_;
  const DecodeOptions& options_;
  Pcm pcm_;
  int channels_ = 0;
  std::int64_t taken_ = 0;
  FramePtr frame_ = make_frame();
};

}  // namespace onpa::audio
