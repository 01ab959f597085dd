#include <algorithm>
#include <cstring>
#include <memory>

#include "audio/demux.h"
#include "audio/frame_sink.h"
#include "audio/ogg_pages.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

// The file in memory, as FFmpeg reads it.
struct Input {
  std::span<const std::byte> bytes;
  std::size_t position = 0;

  static int read(void* self, std::uint8_t* to, int count) {
    auto& in = *static_cast<Input*>(self);
    const std::size_t n = std::min(static_cast<std::size_t>(count), in.bytes.size() - in.position);
    if (n == 0) return AVERROR_EOF;
    std::memcpy(to, in.bytes.data() + in.position, n);
    in.position += n;
    return static_cast<int>(n);
  }
  static std::int64_t seek(void* self, std::int64_t offset, int whence) {
    auto& in = *static_cast<Input*>(self);
    const auto size = static_cast<std::int64_t>(in.bytes.size());
    if (whence & AVSEEK_SIZE) return size;
    whence &= ~AVSEEK_FORCE;
    if (whence == SEEK_CUR) offset += static_cast<std::int64_t>(in.position);
    if (whence == SEEK_END) offset += size;
    if (offset < 0 || offset > size) return AVERROR(EINVAL);
    in.position = static_cast<std::size_t>(offset);
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

DemuxerPtr open_demuxer(Input& input, Format format, const std::string& name) {
  const AVInputFormat* demuxer = av_find_input_format(demuxer_name(format));
  ONPA_CHECK(demuxer != nullptr, "decode: this FFmpeg has no ", demuxer_name(format), " demuxer");
  constexpr int kBufferBytes = 1 << 15;
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
  AVIOContext* io = buffer ? avio_alloc_context(buffer, kBufferBytes, 0, &input, Input::read,
                                                nullptr, Input::seek)
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
    fail(ExitCode::kBadData, name, ": cannot read the ", demuxer_name(format),
         " file: ", describe_error(code));
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
  const auto got = static_cast<std::int64_t>(sink.pcm().samples.size());
  const bool exact =
      format == Format::kFlac || av_get_exact_bits_per_sample(stream.codecpar->codec_id) > 0;
  if (got + (exact ? 0 : rate_hz / 20) < stated) {
    sink.damaged(
        detail::concat("truncated: the header states ", stated, " samples, the file has ", got));
  }
}

}  // namespace

Pcm decode_container(std::span<const std::byte> bytes, const std::string& name, Format format,
                     const DecodeOptions& options) {
  FrameSink sink(name, options);
  if (format == Format::kOgg) {
    for (const std::string& what : check_ogg(bytes, name)) sink.damaged(what);
  }
  Input input{.bytes = bytes};
  const DemuxerPtr demuxer = open_demuxer(input, format, name);
  AVStream* stream = select_stream(demuxer.get(), name);
  const CodecPtr decoder = open_decoder(*stream, name, options.tolerate_errors);
  const PacketPtr packet = make_packet();
  std::int64_t last_samples = 0, last_duration = 0;
  for (;;) {
    const int code = av_read_frame(demuxer.get(), packet.get());
    if (code == AVERROR_EOF) break;
    if (code < 0) {
      sink.damaged(detail::concat("reading fails after ", sink.pcm().samples.size(),
                                  " samples: ", describe_error(code)));
      break;
    }
    if (packet->stream_index == stream->index) {
      if (packet->flags & AV_PKT_FLAG_CORRUPT) {
        sink.damaged(
            detail::concat("truncated or damaged after ", sink.pcm().samples.size(), " samples"));
      }
      last_samples = sink.decode(decoder.get(), packet.get());
      last_duration = packet->duration;
    }
    av_packet_unref(packet.get());
  }
  sink.decode(decoder.get(), nullptr);
  // FFmpeg trims the padding of the last frame for Ogg, but not for m4a, where the frame's duration
  // tells it.
  std::vector<float>& samples = sink.pcm().samples;
  if (format == Format::kM4a && last_duration > 0 && sink.pcm().rate_hz > 0) {
    const std::int64_t kept =
        av_rescale_q(last_duration, stream->time_base, {1, sink.pcm().rate_hz});
    if (kept < last_samples)
      samples.resize(samples.size() - static_cast<std::size_t>(last_samples - kept));
  }
  check_length(*stream, format, sink);
  return std::move(sink.pcm());
}

}  // namespace onpa::audio
