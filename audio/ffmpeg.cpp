#include "audio/ffmpeg.h"

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <new>

namespace onpa::audio {
namespace {

// A file of a few kilobytes can state a length of 2 GB, which FFmpeg allocates and clears before it
// reads. The largest block that audio needs is an m4a's index: 24 bytes for each of 40 or so frames
// a second, 37 hours of which fit.
constexpr std::size_t kLargestBlock = std::size_t{1} << 27;

thread_local std::string last_message;

void keep_message(void* context, int level, const char* format, va_list arguments) {
  if (level > AV_LOG_ERROR) return;
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  std::string message = text;
  while (!message.empty() && static_cast<unsigned char>(message.back()) <= ' ') message.pop_back();
  if (message.empty()) return;
  const AVClass* type = context ? *static_cast<AVClass**>(context) : nullptr;
  last_message = type ? std::string(type->item_name(context)) + ": " + message : message;
}

template <class T>
T* check_allocated(T* p) {
  if (!p) throw std::bad_alloc();
  return p;
}

// Means of a[i * kStep] and b[i * kStep]. A loop of a length known when compiling becomes vector
// instructions.
constexpr int kBlock = 64;
template <int kStep, class T, class ToFloat>
void mix_block(const T* __restrict a, const T* __restrict b, float* __restrict mono,
               const ToFloat& to_float) {
  for (int i = 0; i < kBlock; ++i)
    mono[i] = 0.5f * (to_float(a[i * kStep]) + to_float(b[i * kStep]));
}
template <int kStep, class T, class ToFloat>
void mix_two(const T* a, const T* b, int count, float* mono, const ToFloat& to_float) {
  int i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    mix_block<kStep>(a + i * kStep, b + i * kStep, mono + i, to_float);
  }
  for (; i < count; ++i) mono[i] = 0.5f * (to_float(a[i * kStep]) + to_float(b[i * kStep]));
}

// Sample i of channel c is planes[c][i] or planes[0][i * channels + c].
template <class T, class ToFloat>
void mix(const AVFrame& frame, bool planar, float* mono, const ToFloat& to_float) {
  const int channels = frame.ch_layout.nb_channels, count = frame.nb_samples;
  const float scale = 1.0f / static_cast<float>(channels);
  const auto plane = [&](int c) { return reinterpret_cast<const T*>(frame.extended_data[c]); };
  if (channels == 1) return mix_two<1>(plane(0), plane(0), count, mono, to_float);  // 0.5 (v + v)
  if (channels == 2 && planar) return mix_two<1>(plane(0), plane(1), count, mono, to_float);
  if (channels == 2) return mix_two<2>(plane(0), plane(0) + 1, count, mono, to_float);
  for (int i = 0; i < count; ++i) {
    float sum = 0;
    for (int c = 0; c < channels; ++c) {
      sum += planar ? to_float(plane(c)[i]) : to_float(plane(0)[i * channels + c]);
    }
    mono[i] = sum * scale;
  }
}

}  // namespace

PacketPtr make_packet() {
  return PacketPtr(check_allocated(av_packet_alloc()));
}
FramePtr make_frame() {
  return FramePtr(check_allocated(av_frame_alloc()));
}
CodecPtr make_codec_context(const AVCodec* codec) {
  return CodecPtr(check_allocated(avcodec_alloc_context3(codec)));
}

void prepare_ffmpeg() {
  static std::once_flag once;
  std::call_once(once, [] {
    av_log_set_callback(keep_message);
    av_max_alloc(kLargestBlock);
  });
  last_message.clear();
}

std::string describe_error(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return last_message.empty() ? std::string(text) : std::string(text) + " (" + last_message + ")";
}

bool append_mono(const AVFrame& frame, std::vector<float>& mono) {
  if (frame.nb_samples <= 0 || frame.ch_layout.nb_channels < 1) return frame.nb_samples == 0;
  const auto format = static_cast<AVSampleFormat>(frame.format);
  if (frame.ch_layout.nb_channels == 1 && av_get_packed_sample_fmt(format) == AV_SAMPLE_FMT_FLT) {
    const auto* from = reinterpret_cast<const float*>(frame.extended_data[0]);
    mono.insert(mono.end(), from, from + frame.nb_samples);
    return true;
  }
  const std::size_t before = mono.size();
  mono.resize(before + static_cast<std::size_t>(frame.nb_samples));
  float* out = mono.data() + before;
  const bool planar = av_sample_fmt_is_planar(format) != 0;
  switch (av_get_packed_sample_fmt(format)) {
    case AV_SAMPLE_FMT_U8:
      mix<std::uint8_t>(frame, planar, out,
                        [](std::uint8_t v) { return static_cast<float>(v - 128) * 0x1p-7f; });
      return true;
    case AV_SAMPLE_FMT_S16:
      mix<std::int16_t>(frame, planar, out,
                        [](std::int16_t v) { return static_cast<float>(v) * 0x1p-15f; });
      return true;
    case AV_SAMPLE_FMT_S32:
      mix<std::int32_t>(frame, planar, out,
                        [](std::int32_t v) { return static_cast<float>(v) * 0x1p-31f; });
      return true;
    case AV_SAMPLE_FMT_FLT:
      mix<float>(frame, planar, out, [](float v) { return v; });
      return true;
    case AV_SAMPLE_FMT_DBL:
      mix<double>(frame, planar, out, [](double v) { return static_cast<float>(v); });
      return true;
    default:
      return false;
  }
}

}  // namespace onpa::audio
