#include "audio/encode.h"

#include <algorithm>
#include <cstring>

#include "audio/ffmpeg.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

struct FreeOutput {
  void operator()(AVFormatContext* p) const {
    std::uint8_t* bytes = nullptr;
    if (p->pb != nullptr) avio_close_dyn_buf(p->pb, &bytes);
    av_free(bytes);
    avformat_free_context(p);
  }
};
using OutputPtr = std::unique_ptr<AVFormatContext, FreeOutput>;

void check(int code, const char* what) {
  ONPA_CHECK(code >= 0, "encode_mp3: ", what, ": ", ffmpeg_error(code));
}

void write_packets(AVFormatContext* output, AVCodecContext* codec, AVPacket* packet) {
  for (;;) {
    const int code = avcodec_receive_packet(codec, packet);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
    check(code, "encoding");
    av_packet_rescale_ts(packet, codec->time_base, output->streams[0]->time_base);
    check(av_write_frame(output, packet), "writing");
    av_packet_unref(packet);
  }
}

CodecPtr open_encoder(const Clip& clip, int bitrate_kbps) {
  const AVCodec* encoder = avcodec_find_encoder_by_name("libmp3lame");
  ONPA_CHECK(encoder != nullptr, "encode_mp3: this FFmpeg has no mp3 encoder (libmp3lame)");
  CodecPtr codec(avcodec_alloc_context3(encoder));
  codec->sample_rate = clip.rate_hz;
  codec->sample_fmt = AV_SAMPLE_FMT_FLTP;
  codec->bit_rate = std::int64_t{bitrate_kbps} * 1000;
  av_channel_layout_default(&codec->ch_layout, 1);
  codec->time_base = {1, clip.rate_hz};
  check(avcodec_open2(codec.get(), encoder, nullptr), "opening the encoder");
  return codec;
}

}  // namespace

std::vector<std::byte> encode_mp3(const Clip& clip, int bitrate_kbps) {
  const CodecPtr codec = open_encoder(clip, bitrate_kbps);
  AVFormatContext* raw = nullptr;
  check(avformat_alloc_output_context2(&raw, nullptr, "mp3", nullptr), "opening the muxer");
  const OutputPtr output(raw);
  check(avio_open_dyn_buf(&output->pb), "opening memory");
  AVStream* stream = avformat_new_stream(output.get(), nullptr);
  ONPA_CHECK(stream != nullptr, "encode_mp3: no stream");
  check(avcodec_parameters_from_context(stream->codecpar, codec.get()), "copying parameters");
  stream->time_base = codec->time_base;
  // The muxer adds the Xing/LAME frame with encoder delay and padding; nothing that names a build.
  output->flags |= AVFMT_FLAG_BITEXACT;
  check(avformat_write_header(output.get(), nullptr), "writing the header");

  const FramePtr frame(av_frame_alloc());
  const PacketPtr packet(av_packet_alloc());
  const std::int64_t total = static_cast<std::int64_t>(clip.samples.size());
  for (std::int64_t start = 0; start < total; start += codec->frame_size) {
    av_frame_unref(frame.get());
    frame->nb_samples = static_cast<int>(std::min<std::int64_t>(codec->frame_size, total - start));
    frame->format = codec->sample_fmt;
    frame->sample_rate = codec->sample_rate;
    frame->pts = start;
    check(av_channel_layout_copy(&frame->ch_layout, &codec->ch_layout), "copying the layout");
    check(av_frame_get_buffer(frame.get(), 0), "allocating a frame");
    std::memcpy(frame->data[0], clip.samples.data() + start, sizeof(float) * frame->nb_samples);
    check(avcodec_send_frame(codec.get(), frame.get()), "encoding");
    write_packets(output.get(), codec.get(), packet.get());
  }
  check(avcodec_send_frame(codec.get(), nullptr), "flushing");
  write_packets(output.get(), codec.get(), packet.get());
  check(av_write_trailer(output.get()), "writing the trailer");

  std::uint8_t* bytes = nullptr;
  const int size = avio_close_dyn_buf(output->pb, &bytes);
  output->pb = nullptr;
  std::vector<std::byte> out(reinterpret_cast<std::byte*>(bytes),
                             reinterpret_cast<std::byte*>(bytes) + size);
  av_free(bytes);
  return out;
}

}  // namespace onpa::audio
