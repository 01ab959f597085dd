#include "audio/encode.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "audio/ffmpeg.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

struct MuxerDelete {
  void operator()(AVFormatContext* p) const {
    if (p->pb) {
      std::uint8_t* bytes = nullptr;
      avio_close_dyn_buf(p->pb, &bytes);
      av_free(bytes);
    }
    avformat_free_context(p);
  }
};
using MuxerPtr = std::unique_ptr<AVFormatContext, MuxerDelete>;

void check(int code, const char* what) {
  ONPA_CHECK(code >= 0, "encode_mp3: ", what, ": ", describe_error(code));
}

CodecPtr open_encoder(const Clip& clip, int bitrate_kbps) {
  const AVCodec* codec = avcodec_find_encoder_by_name("libmp3lame");
  ONPA_CHECK(codec != nullptr, "encode_mp3: this FFmpeg has no libmp3lame");
  CodecPtr encoder = make_codec_context(codec);
  encoder->sample_rate = clip.rate_hz;
  encoder->sample_fmt = AV_SAMPLE_FMT_FLTP;
  encoder->bit_rate = std::int64_t{1000} * bitrate_kbps;
  encoder->time_base = {1, clip.rate_hz};
  encoder->flags |= AV_CODEC_FLAG_BITEXACT;
  av_channel_layout_default(&encoder->ch_layout, 1);
  check(avcodec_open2(encoder.get(), codec, nullptr), "cannot open the encoder");
  return encoder;
}

MuxerPtr open_muxer(const AVCodecContext& encoder) {
  AVFormatContext* raw = nullptr;
  check(avformat_alloc_output_context2(&raw, nullptr, "mp3", nullptr), "no mp3 muxer");
  MuxerPtr muxer(raw);
  check(avio_open_dyn_buf(&muxer->pb), "out of memory");
  muxer->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_CUSTOM_IO;
  AVStream* stream = avformat_new_stream(muxer.get(), nullptr);
  ONPA_CHECK(stream != nullptr, "encode_mp3: out of memory");
  check(avcodec_parameters_from_context(stream->codecpar, &encoder), "cannot describe the stream");
  stream->time_base = encoder.time_base;
  AVDictionary* options = nullptr;
  av_dict_set(&options, "id3v2_version", "0", 0);
  av_dict_set(&options, "write_xing", "1", 0);
  const int code = avformat_write_header(muxer.get(), &options);
  av_dict_free(&options);
  check(code, "cannot write the header");
  return muxer;
}

void drain(AVCodecContext* encoder, AVFormatContext* muxer, AVPacket* packet) {
  for (;;) {
    const int code = avcodec_receive_packet(encoder, packet);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
    check(code, "encoding failed");
    packet->stream_index = 0;
    av_packet_rescale_ts(packet, encoder->time_base, muxer->streams[0]->time_base);
    check(av_write_frame(muxer, packet), "writing failed");
    av_packet_unref(packet);
  }
}

}  // namespace

std::vector<std::byte> encode_mp3(const Clip& clip, int bitrate_kbps) {
  prepare_ffmpeg();
  constexpr int kRatesHz[] = {16000, 22050, 24000, 32000, 44100, 48000};
  ONPA_CHECK(std::ranges::find(kRatesHz, clip.rate_hz) != std::end(kRatesHz),
             "encode_mp3: ", clip.rate_hz,
             " Hz is not an mp3 rate, want 32000, 44100, 48000 or half of one");
  ONPA_CHECK(!clip.samples.empty(), "encode_mp3: the clip is empty");
  const CodecPtr encoder = open_encoder(clip, bitrate_kbps);
  const MuxerPtr muxer = open_muxer(*encoder);
  const PacketPtr packet = make_packet();
  const auto size = static_cast<std::int64_t>(clip.samples.size());
  for (std::int64_t at = 0; at < size; at += encoder->frame_size) {
    const FramePtr frame = make_frame();
    frame->nb_samples = static_cast<int>(std::min<std::int64_t>(encoder->frame_size, size - at));
    frame->format = encoder->sample_fmt;
    frame->sample_rate = clip.rate_hz;
    frame->pts = at;
    check(av_channel_layout_copy(&frame->ch_layout, &encoder->ch_layout), "out of memory");
    check(av_frame_get_buffer(frame.get(), 0), "out of memory");
    std::copy_n(clip.samples.begin() + at, frame->nb_samples,
                reinterpret_cast<float*>(frame->data[0]));
    check(avcodec_send_frame(encoder.get(), frame.get()), "encoding failed");
    drain(encoder.get(), muxer.get(), packet.get());
  }
  check(avcodec_send_frame(encoder.get(), nullptr), "encoding failed");
  drain(encoder.get(), muxer.get(), packet.get());
  check(av_write_trailer(muxer.get()), "cannot finish the file");
  std::uint8_t* data = nullptr;
  const int count = avio_close_dyn_buf(muxer->pb, &data);
  muxer->pb = nullptr;
  const std::unique_ptr<std::uint8_t, void (*)(void*)> owner(data, av_free);
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  return {begin, begin + count};
}

}  // namespace onpa::audio
