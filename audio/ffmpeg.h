// Owning handles for FFmpeg objects, its errors as text, its log kept off the terminal, its memory
// bounded. Private to audio/.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/log.h>
#include <libavutil/mem.h>
#include <libavutil/opt.h>
}

#include <memory>
#include <string>
#include <vector>

namespace onpa::audio {

struct FfmpegDelete {
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(AVFrame* p) const { av_frame_free(&p); }
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
};
using PacketPtr = std::unique_ptr<AVPacket, FfmpegDelete>;
using FramePtr = std::unique_ptr<AVFrame, FfmpegDelete>;
using CodecPtr = std::unique_ptr<AVCodecContext, FfmpegDelete>;

/// Allocates or throws std::bad_alloc.
PacketPtr make_packet();
FramePtr make_frame();
CodecPtr make_codec_context(const AVCodec* codec);

/// From now on FFmpeg prints nothing and allocates no block over 128 MiB; the last error that it
/// logs on this thread is kept, and forgotten here. Call before a piece of work.
void prepare_ffmpeg();
/// FFmpeg's text for `code`, with the last error that it logged on this thread, if any.
std::string describe_error(int code);

/// Adds the mean over all channels of `frame` to `mono`, as floats with full scale 1. Returns false
/// if the sample format is none that it knows.
bool append_mono(const AVFrame& frame, std::vector<float>& mono);

}  // namespace onpa::audio
