#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

#include "audio/demux.h"
#include "audio/frame_sink.h"
#include "audio/mp3_walk.h"
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

// Decodes single frames into a sink. Returns the samples that came out.
class FrameDecoder {
 public:
  virtual ~FrameDecoder() = default;
  virtual std::int64_t decode(const MpegFrame& frame, std::span<const std::byte> bytes,
                              FrameSink& sink) = 0;
};

class FfmpegFrames : public FrameDecoder {
 public:
  FfmpegFrames(const MpegHeader& header, const std::string& name, bool tolerate)
      : decoder_(open_decoder(header, name, tolerate)) {}

  std::int64_t decode(const MpegFrame&, std::span<const std::byte> bytes,
                      FrameSink& sink) override {
    // A copy, with the room after it into which decoders may read.
    if (av_new_packet(packet_.get(), static_cast<int>(bytes.size())) < 0) throw std::bad_alloc();
    std::memcpy(packet_->data, bytes.data(), bytes.size());
    const std::int64_t got = sink.decode(decoder_.get(), packet_.get());
    av_packet_unref(packet_.get());
    return got;
  }

 private:
  CodecPtr decoder_;
  PacketPtr packet_ = make_packet();
};

// Layer III through libmpg123, which looks for no damage.
class Mpg123Frames : public FrameDecoder {
 public:
  explicit Mpg123Frames(const MpegHeader& header) : header_(header), decoder_(header) {
    frame_->format = AV_SAMPLE_FMT_FLT;
    frame_->sample_rate = header.rate_hz;
    av_channel_layout_default(&frame_->ch_layout, header.mono ? 1 : 2);
  }

  std::int64_t decode(const MpegFrame& frame, std::span<const std::byte> bytes,
                      FrameSink& sink) override {
    // A damaged frame too: the next may begin in it.
    const std::span<const float> samples = decoder_.decode(bytes);
    if (const auto damage = find_layer3_damage(bytes, header_)) {
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
  MpegHeader header_;
  Mpg123Decoder decoder_;
  FramePtr frame_ = make_frame();
};

// FFmpeg's table of scale factor bands for 24 kHz has an edge at line 330 that ISO 13818-3, and
// encoders, have at 332: it reads a frame whose Huffman regions meet there as noise.
bool is_misread_by_ffmpeg(const MpegHeader& header) {
  return header.layer == 3 && header.rate_hz == 24000;
}

class Mp3Reader : public PcmReader {
 public:
  Mp3Reader(ByteWindow& file, const std::string& name, const DecodeOptions& options)
      : file_(file), walk_(file, name), sink_(name, options) {
    if (is_misread_by_ffmpeg(walk_.header())) {
      frames_ = std::make_unique<Mpg123Frames>(walk_.header());
    } else {
      frames_ = std::make_unique<FfmpegFrames>(walk_.header(), name, options.tolerate_errors);
    }
    sink_.pcm().skip = static_cast<std::size_t>(walk_.skip_start());
    // The smallest frame bounds what a tag may claim.
    constexpr std::uint64_t kSmallestFrame = 24;
    const MpegHeader& header = walk_.header();
    const auto most = static_cast<std::int64_t>(file.size() / kSmallestFrame) + 1;
    const auto likely = static_cast<std::int64_t>(file.size()) / header.bytes + 1;
    const std::int64_t frames = walk_.stated_frames() > 0 ? walk_.stated_frames() : likely;
    expected_ = static_cast<std::int64_t>(
        std::min(static_cast<double>(std::min(frames, most) * header.samples),
                 (options.max_seconds + 1) * header.rate_hz));
  }

  bool advance() override {
    const std::optional<MpegFrame> frame = walk_.next();
    for (const std::string& what : walk_.take_damage()) sink_.damaged(what);
    if (!frame) {
      trim();
      return false;
    }
    const auto bytes = file_.view(frame->offset, static_cast<std::size_t>(frame->bytes));
    const std::int64_t got = frames_->decode(*frame, bytes, sink_);
    const std::int64_t want = walk_.header().samples;
    if (got == want) return true;
    sink_.damaged(detail::concat("the frame at byte ", frame->offset, " decodes to ", got,
                                 " samples, want ", want));
    // What follows a lost frame keeps its place in time.
    std::vector<float>& samples = sink_.pcm().samples;
    samples.resize(samples.size() +
                   static_cast<std::size_t>(std::max<std::int64_t>(0, want - got)));
    return true;
  }

  std::int64_t held() const override { return walk_.skip_end(); }
  FrameSink& sink() override { return sink_; }
  std::int64_t expected_samples() const override { return expected_; }

 private:
  void trim() {
    const std::int64_t size = sink_.total(), start = std::min(size, walk_.skip_start());
    std::vector<float>& samples = sink_.pcm().samples;
    samples.resize(samples.size() -
                   static_cast<std::size_t>(size - std::max(start, size - walk_.skip_end())));
    sink_.pcm().skip = static_cast<std::size_t>(start);
    sink_.pcm().rate_hz = walk_.header().rate_hz;
  }

  ByteWindow& file_;
  Mp3Walk walk_;
  FrameSink sink_;
  std::unique_ptr<FrameDecoder> frames_;
  std::int64_t expected_ = 0;
};

}  // namespace

std::unique_ptr<PcmReader> open_mp3(ByteWindow& file, const std::string& name,
                                    const DecodeOptions& options) {
  return std::make_unique<Mp3Reader>(file, name, options);
}

}  // namespace onpa::audio
