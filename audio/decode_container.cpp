#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>

#include "audio/demux.h"
#include "audio/frame_sink.h"
#include "audio/ogg_pages.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

// The file as FFmpeg reads it. Nothing may be thrown through FFmpeg, so errors wait.
struct Input {
  ByteWindow& file;
  OggCheck* pages = nullptr;  // hears what is read, where each byte is read once
  std::uint64_t position = 0;
  std::exception_ptr error = {};

  void rethrow() const {
    if (error) std::rethrow_exception(error);
  }

  static int read(void* self, std::uint8_t* to, int count) {
    auto& in = *static_cast<Input*>(self);
    if (in.error) return AVERROR(EIO);
    try {
      const auto bytes = in.file.view(in.position, static_cast<std::size_t>(count));
      if (in.pages && bytes.empty()) std::exchange(in.pages, nullptr)->finish();
      if (bytes.empty()) return AVERROR_EOF;
      if (in.pages) in.pages->feed(bytes);
      std::memcpy(to, bytes.data(), bytes.size());
      in.position += bytes.size();
      in.file.forget(in.position);
      return static_cast<int>(bytes.size());
    } catch (...) {
      in.error = std::current_exception();
      return AVERROR(EIO);
    }
  }
  static std::int64_t seek(void* self, std::int64_t offset, int whence) {
    auto& in = *static_cast<Input*>(self);
    const auto size = static_cast<std::int64_t>(in.file.size());
    if (whence & AVSEEK_SIZE) return size;
    whence &= ~AVSEEK_FORCE;
    if (whence == SEEK_CUR) offset += static_cast<std::int64_t>(in.position);
    if (whence == SEEK_END) offset += size;
    if (offset < 0 || offset > size) return AVERROR(EINVAL);
    in.position = static_cast<std::uint64_t>(offset);
    return offset;
  }
};

struct DemuxerDelete {
  AVIOContext* io = nullptr;
  void operator()(AVFormatContext* p) const {
    avformat_close_input(&p);
    free_io(io);
  }
  static void free_io(AVIOContext* io) {
    if (io) av_freep(&io->buffer);
    avio_context_free(&io);
  }
};
using DemuxerPtr = std::unique_ptr<AVFormatContext, DemuxerDelete>;

// Playlists, external tracks and the like: nothing inside a file may name another.
int refuse_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EACCES);
}

const char* demuxer_name(Format format) {
  switch (format) {
    case Format::kWav:
      return "wav";
    case Format::kFlac:
      return "flac";
    case Format::kOgg:
      return "ogg";
    case Format::kM4a:
      return "mov";
    case Format::kMp3:
      break;
  }
  fail(ExitCode::kInternal, "decode: mp3 has no demuxer here");
}

const char* pipe_hint(Format format, const ByteWindow& file) {
  return format == Format::kM4a && !file.is_seekable()
             ? "; from a pipe an m4a must have its index in front of the audio"
             : "";
}

// Whether programs that cannot know it state this as the length of a wav's data: nothing, all that
// the field or a signed one holds, or a little less.
bool is_unknown_length(std::uint32_t bytes) {
  constexpr std::uint32_t kLess = 1 << 16, kSigned = 1u << 31;
  return bytes == 0 || -bytes <= kLess || (bytes <= kSigned && kSigned - bytes <= kLess);
}

// Whether a wav is one that its writer could not give a length, as programs that write into a pipe
// cannot: it ends where it ends.
bool is_open_wav(ByteWindow& file) {
  constexpr std::uint64_t kMaxHeader = 1 << 20;
  const auto u32 = [&](std::uint64_t at) {
    std::uint32_t value = 0;
    const auto bytes = file.view(at, sizeof value);
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  };
  constexpr std::uint32_t kRiff = MKTAG('R', 'I', 'F', 'F'), kData = MKTAG('d', 'a', 't', 'a');
  if (u32(0) != kRiff) return false;
  std::uint64_t at = 12;
  while (at < kMaxHeader && u32(at) != kData && u32(at) != 0) {
    at += 8 + (u32(at + 4) + std::uint64_t{1}) / 2 * 2;
  }
  if (at >= kMaxHeader || u32(at) != kData) return false;
  const std::uint32_t bytes = u32(at + 4);
  if (bytes == 0 || bytes == 0xFFFFFFFF) return true;
  return is_unknown_length(bytes) && (!file.is_seekable() || at + 8 + bytes > file.size());
}

DemuxerPtr open_demuxer(Input& input, Format format, const std::string& name) {
  const AVInputFormat* demuxer = av_find_input_format(demuxer_name(format));
  ONPA_CHECK(demuxer != nullptr, "decode: this FFmpeg has no ", demuxer_name(format), " demuxer");
  constexpr int kBufferBytes = 1 << 15;
  auto* seek = input.file.is_seekable() ? Input::seek : nullptr;
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
  AVIOContext* io =
      buffer ? avio_alloc_context(buffer, kBufferBytes, 0, &input, Input::read, nullptr, seek)
             : nullptr;
  AVFormatContext* context = io ? avformat_alloc_context() : nullptr;
  if (!context) {
    if (io) {
      DemuxerDelete::free_io(io);
    } else {
      av_free(buffer);
    }
    throw std::bad_alloc();
  }
  context->pb = io;
  context->flags |= AVFMT_FLAG_CUSTOM_IO;
  context->io_open = refuse_open;
  context->max_streams = 16;
  context->error_recognition = AV_EF_CRCCHECK;
  AVDictionary* options = nullptr;
  av_dict_set(&options, "format_whitelist", demuxer->name, 0);
  av_dict_set(&options, "protocol_whitelist", "none", 0);
  const int code = avformat_open_input(&context, "", demuxer, &options);  // frees it on failure
  av_dict_free(&options);
  if (code < 0) {
    DemuxerDelete::free_io(io);
    input.rethrow();
    fail(ExitCode::kBadData, name, ": cannot read the ", demuxer_name(format),
         " file: ", describe_error(code), pipe_hint(format, input.file));
  }
  return DemuxerPtr(context, DemuxerDelete{io});
}

bool is_known_codec(AVCodecID id) {
  switch (id) {
    case AV_CODEC_ID_MP3:
    case AV_CODEC_ID_AAC:
    case AV_CODEC_ID_ALAC:
    case AV_CODEC_ID_FLAC:
    case AV_CODEC_ID_VORBIS:
    case AV_CODEC_ID_OPUS:
    case AV_CODEC_ID_ADPCM_MS:
    case AV_CODEC_ID_ADPCM_IMA_WAV:
      return true;
    default:
      return id >= AV_CODEC_ID_FIRST_AUDIO && id < AV_CODEC_ID_ADPCM_IMA_QT;  // plain PCM
  }
}

AVStream* select_stream(AVFormatContext* demuxer, const std::string& name) {
  // The first audio stream, or the one that the file marks as its default.
  AVStream* stream = nullptr;
  for (unsigned i = 0; i < demuxer->nb_streams; ++i) {
    AVStream* candidate = demuxer->streams[i];
    candidate->discard = AVDISCARD_ALL;
    if (candidate->codecpar->codec_type != AVMEDIA_TYPE_AUDIO) continue;
    const bool is_default = candidate->disposition & AV_DISPOSITION_DEFAULT;
    if (!stream || (is_default && !(stream->disposition & AV_DISPOSITION_DEFAULT))) {
      stream = candidate;
    }
  }
  if (!stream) fail(ExitCode::kBadData, name, ": no audio stream");
  stream->discard = AVDISCARD_DEFAULT;
  if (!is_known_codec(stream->codecpar->codec_id)) {
    fail(ExitCode::kBadData, name, ": codec ", avcodec_get_name(stream->codecpar->codec_id),
         " is not supported");
  }
  return stream;
}

CodecPtr open_decoder(const AVStream& stream, const std::string& name, bool tolerate) {
  const AVCodec* codec = avcodec_find_decoder(stream.codecpar->codec_id);
  if (!codec) {
    fail(ExitCode::kBadData, name, ": this FFmpeg cannot decode ",
         avcodec_get_name(stream.codecpar->codec_id));
  }
  CodecPtr decoder = make_codec_context(codec);
  int code = avcodec_parameters_to_context(decoder.get(), stream.codecpar);
  decoder->pkt_timebase = stream.time_base;
  decoder->thread_count = 1;
  decoder->err_recognition = AV_EF_CRCCHECK | (tolerate ? 0 : AV_EF_EXPLODE);
  if (code >= 0) code = avcodec_open2(decoder.get(), codec, nullptr);
  if (code < 0) fail(ExitCode::kBadData, name, ": cannot open the decoder: ", describe_error(code));
  return decoder;
}

// A container that states its length must hold it. Lossless formats state it to the sample; for the
// others 50 ms allow for a codec's delay.
void check_length(const AVStream& stream, Format format, FrameSink& sink) {
  if (stream.duration <= 0) return;
  const int rate_hz = sink.pcm().rate_hz;
  if (rate_hz == 0) {
    const double seconds = static_cast<double>(stream.duration) * av_q2d(stream.time_base);
    sink.damaged(detail::concat("truncated: the header states ", seconds, " s, the file has none"));
    return;
  }
  const std::int64_t stated = av_rescale_q(stream.duration, stream.time_base, {1, rate_hz});
  const std::int64_t got = sink.total();
  const bool exact =
      format == Format::kFlac || av_get_exact_bits_per_sample(stream.codecpar->codec_id) > 0;
  if (got + (exact ? 0 : rate_hz / 20) < stated) {
    sink.damaged(
        detail::concat("truncated: the header states ", stated, " samples, the file has ", got));
  }
}

class ContainerReader : public PcmReader {
 public:
  ContainerReader(ByteWindow& file, Format format, const std::string& name,
                  const DecodeOptions& options)
      : format_(format), sink_(name, options), pages_(name), input_{.file = file} {
    if (format == Format::kOgg) check_pages(file);
    open_end_ = format == Format::kWav && is_open_wav(file);
    demuxer_ = open_demuxer(input_, format, name);
    stream_ = select_stream(demuxer_.get(), name);
    decoder_ = open_decoder(*stream_, name, options.tolerate_errors);
  }

  bool advance() override {
    const int code = av_read_frame(demuxer_.get(), packet_.get());
    input_.rethrow();
    report_pages();
    if (code == AVERROR_EOF) {
      end();
      return false;
    }
    if (code < 0) {
      sink_.damaged(detail::concat("reading fails after ", sink_.total(), " samples: ",
                                   describe_error(code), pipe_hint(format_, input_.file)));
      end();
      return false;
    }
    if (packet_->stream_index == stream_->index) {
      if ((packet_->flags & AV_PKT_FLAG_CORRUPT) && !open_end_) {
        sink_.damaged(detail::concat("truncated or damaged after ", sink_.total(), " samples"));
      }
      drop_partial_block();
      // A packet of no bytes would end the decoding.
      if (packet_->size > 0) last_samples_ = sink_.decode(decoder_.get(), packet_.get());
      last_duration_ = packet_->duration;
    }
    av_packet_unref(packet_.get());
    return true;
  }

  std::int64_t held() const override { return format_ == Format::kM4a ? last_samples_ : 0; }
  FrameSink& sink() override { return sink_; }

 private:
  // What can be read twice is checked first; of a pipe the pages are looked at as they come by.
  void check_pages(ByteWindow& file) {
    if (!file.is_seekable()) {
      input_.pages = &pages_;
      return;
    }
    constexpr std::size_t kStep = 1 << 16;
    for (std::uint64_t at = 0;; at += kStep) {
      file.forget(at);
      const auto bytes = file.view(at, kStep);
      pages_.feed(bytes);
      if (bytes.size() < kStep) break;
    }
    pages_.finish();
    report_pages();
  }

  // Some wavs state a byte or two more than whole sample frames.
  void drop_partial_block() {
    const AVCodecParameters& codec = *stream_->codecpar;
    if (format_ != Format::kWav || codec.block_align <= 0) return;
    if (av_get_exact_bits_per_sample(codec.codec_id) == 0) return;
    av_shrink_packet(packet_.get(), packet_->size - packet_->size % codec.block_align);
  }

  void report_pages() {
    const std::vector<std::string>& damage = pages_.damage();
    while (reported_ < damage.size()) sink_.damaged(damage[reported_++]);
  }

  // FFmpeg trims the padding of the last frame for Ogg, but not for m4a, where the frame's duration
  // tells it.
  void end() {
    sink_.decode(decoder_.get(), nullptr);
    std::vector<float>& samples = sink_.pcm().samples;
    const int rate_hz = sink_.pcm().rate_hz;
    if (format_ == Format::kM4a && last_duration_ > 0 && rate_hz > 0) {
      const std::int64_t kept = av_rescale_q(last_duration_, stream_->time_base, {1, rate_hz});
      if (kept < last_samples_) {
        samples.resize(samples.size() - static_cast<std::size_t>(last_samples_ - kept));
      }
    }
    if (!open_end_) check_length(*stream_, format_, sink_);
  }

  Format format_;
  FrameSink sink_;
  OggCheck pages_;
  std::size_t reported_ = 0;  // of pages_.damage()
  Input input_;
  DemuxerPtr demuxer_;
  AVStream* stream_ = nullptr;
  CodecPtr decoder_;
  PacketPtr packet_ = make_packet();
  std::int64_t last_samples_ = 0, last_duration_ = 0;
  bool open_end_ = false;
};

}  // namespace

std::unique_ptr<PcmReader> open_container(ByteWindow& file, Format format, const std::string& name,
                                          const DecodeOptions& options) {
  return std::make_unique<ContainerReader>(file, format, name, options);
}

}  // namespace onpa::audio
