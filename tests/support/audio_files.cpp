#include "tests/support/audio_files.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/log.h>
}

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "kernels/error.h"

namespace onpa::testing {
namespace {

void check(int code, const char* what) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  if (code < 0) av_strerror(code, text, sizeof text);
  ONPA_CHECK(code >= 0, "test file: ", what, ": ", text);
}

void fill(AVFrame* frame, const Planes& planes, std::int64_t at) {
  const auto format = static_cast<AVSampleFormat>(frame->format);
  const bool planar = av_sample_fmt_is_planar(format) != 0;
  const std::size_t channels = planes.size();
  for (std::size_t c = 0; c < channels; ++c) {
    for (int i = 0; i < frame->nb_samples; ++i) {
      const float v = planes[c][static_cast<std::size_t>(at + i)];
      std::uint8_t* plane = frame->extended_data[planar ? c : 0];
      const std::size_t k =
          planar ? static_cast<std::size_t>(i) : static_cast<std::size_t>(i) * channels + c;
      const double limited = std::clamp(static_cast<double>(v), -1.0, 1.0 - 0x1p-24);
      switch (av_get_packed_sample_fmt(format)) {
        case AV_SAMPLE_FMT_U8:
          plane[k] = static_cast<std::uint8_t>(std::floor(limited * 128 + 128));
          break;
        case AV_SAMPLE_FMT_S16:
          reinterpret_cast<std::int16_t*>(plane)[k] =
              static_cast<std::int16_t>(std::floor(limited * 32768));
          break;
        case AV_SAMPLE_FMT_S32:
          reinterpret_cast<std::int32_t*>(plane)[k] =
              static_cast<std::int32_t>(std::floor(limited * 2147483648.0));
          break;
        case AV_SAMPLE_FMT_FLT:
          reinterpret_cast<float*>(plane)[k] = v;
          break;
        case AV_SAMPLE_FMT_DBL:
          reinterpret_cast<double*>(plane)[k] = v;
          break;
        default:
          fail(ExitCode::kInternal, "test file: sample format ", frame->format);
      }
    }
  }
}

void drain(AVCodecContext* encoder, AVFormatContext* muxer) {
  AVPacket* packet = av_packet_alloc();
  while (avcodec_receive_packet(encoder, packet) >= 0) {
    packet->stream_index = 0;
    av_packet_rescale_ts(packet, encoder->time_base, muxer->streams[0]->time_base);
    check(av_write_frame(muxer, packet), "writing");
    av_packet_unref(packet);
  }
  av_packet_free(&packet);
}

}  // namespace

bool has_encoder(const std::string& name) {
  return avcodec_find_encoder_by_name(name.c_str()) != nullptr;
}

std::vector<std::byte> make_file(const FileKind& kind, const Planes& planes, int rate_hz) {
  const AVCodec* codec = avcodec_find_encoder_by_name(kind.encoder.c_str());
  ONPA_CHECK(codec, "test file: no encoder ", kind.encoder);
  AVFormatContext* muxer = nullptr;
  check(avformat_alloc_output_context2(&muxer, nullptr, kind.muxer.c_str(), nullptr), "muxer");
  AVCodecContext* encoder = avcodec_alloc_context3(codec);
  encoder->sample_rate = rate_hz;
  encoder->sample_fmt = codec->sample_fmts ? codec->sample_fmts[0] : AV_SAMPLE_FMT_S16;
  encoder->bit_rate = kind.bits_per_second;
  encoder->time_base = {1, rate_hz};
  encoder->strict_std_compliance = FF_COMPLIANCE_EXPERIMENTAL;
  av_channel_layout_default(&encoder->ch_layout, static_cast<int>(planes.size()));
  if (muxer->oformat->flags & AVFMT_GLOBALHEADER) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  check(avcodec_open2(encoder, codec, nullptr), "opening the encoder");
  AVStream* stream = avformat_new_stream(muxer, nullptr);
  check(avcodec_parameters_from_context(stream->codecpar, encoder), "parameters");
  stream->time_base = encoder->time_base;
  check(avio_open_dyn_buf(&muxer->pb), "memory");
  AVDictionary* options = nullptr;
  check(av_dict_parse_string(&options, kind.options.c_str(), "=", ":", 0), "options");
  check(avformat_write_header(muxer, &options), "header");
  av_dict_free(&options);

  const auto size = static_cast<std::int64_t>(planes[0].size());
  const std::int64_t step = encoder->frame_size > 0 ? encoder->frame_size : 1024;
  for (std::int64_t at = 0; at < size; at += step) {
    AVFrame* frame = av_frame_alloc();
    frame->nb_samples = static_cast<int>(std::min(step, size - at));
    frame->format = encoder->sample_fmt;
    frame->sample_rate = rate_hz;
    frame->pts = at;
    check(av_channel_layout_copy(&frame->ch_layout, &encoder->ch_layout), "layout");
    check(av_frame_get_buffer(frame, 0), "frame");
    fill(frame, planes, at);
    check(avcodec_send_frame(encoder, frame), "encoding");
    av_frame_free(&frame);
    drain(encoder, muxer);
  }
  check(avcodec_send_frame(encoder, nullptr), "flushing");
  drain(encoder, muxer);
  check(av_write_trailer(muxer), "trailer");
  std::uint8_t* data = nullptr;
  const int count = avio_close_dyn_buf(muxer->pb, &data);
  muxer->pb = nullptr;
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(begin, begin + count);
  av_free(data);
  avcodec_free_context(&encoder);
  avformat_free_context(muxer);
  return bytes;
}

Planes make_tones(int channels, std::int64_t samples, int rate_hz, double top_hz) {
  Planes planes(static_cast<std::size_t>(channels));
  for (int c = 0; c < channels; ++c) {
    auto& plane = planes[static_cast<std::size_t>(c)];
    plane.resize(static_cast<std::size_t>(samples));
    for (std::int64_t i = 0; i < samples; ++i) {
      const double t = static_cast<double>(i) / rate_hz, tau = 2 * std::numbers::pi;
      plane[static_cast<std::size_t>(i)] =
          static_cast<float>(0.25 * std::sin(tau * 0.09 * top_hz * (1 + 0.3 * c) * t) +
                             0.2 * std::sin(tau * 0.31 * top_hz * t + c) * std::cos(tau * 1.7 * t) +
                             0.15 * std::sin(tau * 0.7 * top_hz * t + 0.2 * std::sin(tau * 3 * t)));
    }
  }
  return planes;
}

std::vector<float> mean_of_channels(const Planes& planes) {
  std::vector<float> mono(planes[0].size(), 0.0f);
  for (const auto& plane : planes) {
    for (std::size_t i = 0; i < mono.size(); ++i) {
      mono[i] += plane[i] / static_cast<float>(planes.size());
    }
  }
  return mono;
}

double snr_db(const std::vector<float>& got, const std::vector<float>& want) {
  double signal = 0, error = 1e-30;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double e = static_cast<double>(got[i]) - want[i];
    signal += static_cast<double>(want[i]) * want[i];
    error += e * e;
  }
  return 10 * std::log10(signal / error);
}

}  // namespace onpa::testing
