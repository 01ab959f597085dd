#include "audio/frame_sink.h"

#include "audio/resample.h"
#include "kernels/error.h"

namespace onpa::audio {

void FrameSink::append(const AVFrame& frame) {
  const int channels = frame.ch_layout.nb_channels;
  if (pcm_.rate_hz == 0) {
    constexpr int kMinRateHz = 1000, kMaxRateHz = 768000, kMaxChannels = 64;
    if (frame.sample_rate < kMinRateHz || frame.sample_rate > kMaxRateHz) {
      fail(ExitCode::kBadData, name_, ": a rate of ", frame.sample_rate, " Hz, want ", kMinRateHz,
           " to ", kMaxRateHz);
    }
    if (channels < 1 || channels > kMaxChannels) {
      fail(ExitCode::kBadData, name_, ": ", channels, " channels, want 1 to ", kMaxChannels);
    }
    if (!can_resample(frame.sample_rate, options_.rate_hz)) {
      fail(ExitCode::kBadData, name_, ": a rate of ", frame.sample_rate,
           " Hz, of which a resampler to ", options_.rate_hz, " Hz would be too large");
    }
    pcm_.rate_hz = frame.sample_rate;
    channels_ = channels;
  }
  if (frame.sample_rate != pcm_.rate_hz || channels != channels_) {
    fail(ExitCode::kBadData, name_, ": the stream changes from ", pcm_.rate_hz, " Hz, ", channels_,
         " channels to ", frame.sample_rate, " Hz, ", channels, " channels after ", total(),
         " samples");
  }
  if (!append_mono(frame, pcm_.samples)) {
    fail(ExitCode::kBadData, name_, ": sample format ", frame.format, " is not supported");
  }
  if (static_cast<double>(total()) > options_.max_seconds * pcm_.rate_hz) {
    fail(ExitCode::kBadData, name_, ": longer than the limit of ", options_.max_seconds, " s");
  }
  if ((frame.flags & AV_FRAME_FLAG_CORRUPT) || frame.decode_error_flags) {
    damaged(detail::concat("a damaged frame ends at sample ", total()));
  }
}

void FrameSink::damaged(const std::string& what) {
  if (!options_.tolerate_errors) fail(ExitCode::kBadData, name_, ": ", what);
  pcm_.damage.push_back(what);
}

std::int64_t FrameSink::decode(AVCodecContext* decoder, const AVPacket* packet) {
  const std::int64_t before = total();
  int code = avcodec_send_packet(decoder, packet);
  while (code >= 0) {
    code = avcodec_receive_frame(decoder, frame_.get());
    if (code >= 0) append(*frame_);
  }
  if (code != AVERROR(EAGAIN) && code != AVERROR_EOF) {
    damaged(detail::concat("decoding fails after ", total(), " samples: ", describe_error(code)));
  }
  return total() - before;
}

void FrameSink::drop(std::int64_t count) {
  pcm_.samples.erase(pcm_.samples.begin(), pcm_.samples.begin() + count);
  taken_ += count;
}

}  // namespace onpa::audio
