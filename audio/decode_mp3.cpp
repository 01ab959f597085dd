#include <algorithm>
#include <cstring>

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
  for (const MpegFrame& frame : layout.frames) {
    if (av_new_packet(packet.get(), static_cast<int>(frame.bytes)) < 0) throw std::bad_alloc();
    std::memcpy(packet->data, bytes.data() + frame.offset, static_cast<std::size_t>(frame.bytes));
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
  samples.erase(samples.begin(), samples.begin() + start);
  return std::move(sink.pcm());
}

}  // namespace onpa::audio
