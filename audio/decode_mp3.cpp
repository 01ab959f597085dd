#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "audio/demux.h"
#include "audio/frame_sink.h"
#include "audio/mp3_frames.h"
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

}  // namespace

Pcm decode_mp3(std::span<const std::byte> bytes, const std::string& name,
               const DecodeOptions& options) {
  const Mp3Layout layout = scan_mp3(bytes, name);
  FrameSink sink(name, options);
  for (const std::string& what : layout.damage) sink.damaged(what);
  const CodecPtr decoder = open_decoder(layout.header, name, options.tolerate_errors);
  const double stated_seconds = static_cast<double>(layout.header.samples) *
                                static_cast<double>(layout.frames.size()) / layout.header.rate_hz;
  std::vector<float>& samples = sink.pcm().samples;
  samples.reserve(static_cast<std::size_t>(std::min(stated_seconds, options.max_seconds + 1) *
                                           layout.header.rate_hz));
  const PacketPtr packet = make_packet();
  const BufferPtr whole = share_input(bytes);
  for (const MpegFrame& frame : layout.frames) {
    fill_packet(*packet, whole.get(), bytes, frame);
    const std::int64_t got = sink.decode(decoder.get(), packet.get());
    av_packet_unref(packet.get());
    if (got != layout.header.samples) {
      sink.damaged(detail::concat("the frame at byte ", frame.offset, " decodes to ", got,
                                  " samples, want ", layout.header.samples));
      // What follows a lost frame keeps its place in time.
      samples.resize(samples.size() + static_cast<std::size_t>(
                                          std::max<std::int64_t>(0, layout.header.samples - got)));
    }
  }
  sink.pcm().rate_hz = layout.header.rate_hz;
  const auto size = static_cast<std::int64_t>(samples.size());
  const std::int64_t start = std::min(size, layout.skip_start);
  samples.resize(static_cast<std::size_t>(std::max(start, size - layout.skip_end)));
  sink.pcm().skip = static_cast<std::size_t>(start);
  return std::move(sink.pcm());
}

}  // namespace onpa::audio
