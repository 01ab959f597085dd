#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "audio/demux.h"
#include "audio/frame_sink.h"
#include "audio/mp3_frames.h"
#include "audio/mpg123_decoder.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

CodecPtr open_decoder(const MpegHeader& header, const std::string& name, bool tolerate) {
  constexpr AVCodecID kId[] = {AV_CODEC_ID_MP1, AV_CODEC_ID_MP2, AV_CODEC_ID_MP3};
  const AVCodec* codec = avcodec_find_decoder(kId[header.layer - 1]);
  ONPA_CHECK(codec != nullptr, "decode: this FFmpeg has no MPEG layer ", header.layer, " decoder");
  CodecPtr decoder = make_codec_context(codec);
  decoder->thread_count = 1;
  decoder->err_recognition = AV_EF_CRCCHECK | (tolerate ? 0 : AV_EF_EXPLODE);
  const int code = avcodec_open2(decoder.get(), codec, nullptr);
  if (code < 0) fail(ExitCode::kBadData, name, ": cannot open the decoder: ", describe_error(code));
  return decoder;
}

struct BufferDelete {
  void operator()(AVBufferRef* p) const { av_buffer_unref(&p); }
};
using BufferPtr = std::unique_ptr<AVBufferRef, BufferDelete>;

// The file as a buffer that packets refer to; it owns nothing and must not outlive the file.
BufferPtr share_input(std::span<const std::byte> bytes) {
  auto* data = const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(bytes.data()));
  AVBufferRef* buffer = av_buffer_create(
      data, bytes.size(), [](void*, std::uint8_t*) {}, nullptr, AV_BUFFER_FLAG_READONLY);
  if (!buffer) throw std::bad_alloc();
  return BufferPtr(buffer);
}

// Decoders may read some bytes past a packet's end: frames at the end of the file, after which
// there are none, are copied.
void fill_packet(AVPacket& packet, AVBufferRef* whole, std::span<const std::byte> bytes,
                 const MpegFrame& frame) {
  const auto count = static_cast<std::size_t>(frame.bytes);
  if (bytes.size() - frame.offset - count < AV_INPUT_BUFFER_PADDING_SIZE) {
    if (av_new_packet(&packet, static_cast<int>(count)) < 0) throw std::bad_alloc();
    std::memcpy(packet.data, bytes.data() + frame.offset, count);
    return;
  }
  packet.buf = av_buffer_ref(whole);
  if (!packet.buf) throw std::bad_alloc();
  packet.data = whole->data + frame.offset;
  packet.size = static_cast<int>(count);
}

// Frames through FFmpeg.
class FfmpegFrames {
 public:
  FfmpegFrames(std::span<const std::byte> bytes, const MpegHeader& header, const std::string& name,
               bool tolerate)
      : bytes_(bytes), decoder_(open_decoder(header, name, tolerate)), whole_(share_input(bytes)) {}

  std::int64_t decode(const MpegFrame& frame, FrameSink& sink) {
    fill_packet(*packet_, whole_.get(), bytes_, frame);
    const std::int64_t got = sink.decode(decoder_.get(), packet_.get());
    av_packet_unref(packet_.get());
    return got;
  }

 private:
  std::span<const std::byte> bytes_;
  CodecPtr decoder_;
  BufferPtr whole_;
  PacketPtr packet_ = make_packet();
};

// Frames of layer III through libmpg123, which looks for no damage.
class Mpg123Frames {
 public:
  Mpg123Frames(std::span<const std::byte> bytes, const MpegHeader& header)
      : bytes_(bytes), header_(header), decoder_(header) {
    frame_->format = AV_SAMPLE_FMT_FLT;
    frame_->sample_rate = header.rate_hz;
    av_channel_layout_default(&frame_->ch_layout, header.mono ? 1 : 2);
  }

  std::int64_t decode(const MpegFrame& frame, FrameSink& sink) {
    const auto data = bytes_.subspan(frame.offset, static_cast<std::size_t>(frame.bytes));
    // A damaged frame too: the next may begin in it.
    const std::span<const float> samples = decoder_.decode(data);
    if (const auto damage = find_layer3_damage(data, header_)) {
      sink.damaged(detail::concat("the frame at byte ", frame.offset, ": ", damage->what));
      if (damage->is_lost) return 0;
    }
    frame_->nb_samples = static_cast<int>(samples.size()) / frame_->ch_layout.nb_channels;
    frame_->data[0] = const_cast<std::uint8_t*>(  // append() only reads
        reinterpret_cast<const std::uint8_t*>(samples.data()));
    sink.append(*frame_);
    return frame_->nb_samples;
  }

 private:
  std::span<const std::byte> bytes_;
  const MpegHeader& header_;
  Mpg123Decoder decoder_;
  FramePtr frame_ = make_frame();
};

template <class Frames>
void decode_frames(const Mp3Layout& layout, Frames frames, FrameSink& sink) {
  std::vector<float>& samples = sink.pcm().samples;
  for (const MpegFrame& frame : layout.frames) {
    const std::int64_t got = frames.decode(frame, sink);
    if (got == layout.header.samples) continue;
    sink.damaged(detail::concat("the frame at byte ", frame.offset, " decodes to ", got,
                                " samples, want ", layout.header.samples));
    // What follows a lost frame keeps its place in time.
    samples.resize(samples.size() + static_cast<std::size_t>(
                                        std::max<std::int64_t>(0, layout.header.samples - got)));
  }
}

// FFmpeg's table of scale factor bands for 24 kHz has an edge at line 330 that ISO 13818-3, and
// encoders, have at 332: it reads a frame whose Huffman regions meet there as noise.
bool is_misread_by_ffmpeg(const MpegHeader& header) {
  return header.layer == 3 && header.rate_hz == 24000;
}

}  // namespace

Pcm decode_mp3(std::span<const std::byte> bytes, const std::string& name,
               const DecodeOptions& options) {
  const Mp3Layout layout = scan_mp3(bytes, name);
  FrameSink sink(name, options);
  for (const std::string& what : layout.damage) sink.damaged(what);
  const double stated_seconds = static_cast<double>(layout.header.samples) *
                                static_cast<double>(layout.frames.size()) / layout.header.rate_hz;
  std::vector<float>& samples = sink.pcm().samples;
  samples.reserve(static_cast<std::size_t>(std::min(stated_seconds, options.max_seconds + 1) *
                                           layout.header.rate_hz));
  if (is_misread_by_ffmpeg(layout.header)) {
    decode_frames(layout, Mpg123Frames(bytes, layout.header), sink);
  } else {
    decode_frames(layout, FfmpegFrames(bytes, layout.header, name, options.tolerate_errors), sink);
  }
  sink.pcm().rate_hz = layout.header.rate_hz;
  const auto size = static_cast<std::int64_t>(samples.size());
  const std::int64_t start = std::min(size, layout.skip_start);
  samples.resize(static_cast<std::size_t>(std::max(start, size - layout.skip_end)));
  sink.pcm().skip = static_cast<std::size_t>(start);
  return std::move(sink.pcm());
}

}  // namespace onpa::audio
