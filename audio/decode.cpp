#include "audio/decode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <mutex>

#include "audio/ffmpeg.h"
#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr int kIoBufferBytes = 1 << 15;
constexpr int kMaxChannels = 8, kMinRateHz = 8000, kMaxRateHz = 192000;
constexpr double kDurationTolerance = 0.05;  // seconds that a file may fall short of its own claim
constexpr int kCodecPadding = 3 * 1152;      // samples; mp3 counts encoder delay and padding in

thread_local std::string last_message;

// Keeps FFmpeg quiet, and its last complaint for the error text.
void remember_message(void*, int level, const char* format, va_list args) {
  if (level > AV_LOG_WARNING) return;
  char text[256];
  std::vsnprintf(text, sizeof text, format, args);
  last_message = text;
  while (!last_message.empty() && last_message.back() == '\n') last_message.pop_back();
}

void silence_ffmpeg() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(remember_message); });
}

const char* demuxer_name(Format format) {
  switch (format) {
    case Format::kMp3:
      return "mp3";
    case Format::kWav:
      return "wav";
    case Format::kFlac:
      return "flac";
    case Format::kOgg:
      return "ogg";
    case Format::kM4a:
      return "mov";
  }
  return "";
}

// The bytes of a file as FFmpeg reads them; nothing else is ever opened.
struct MemoryFile {
  std::span<const std::byte> bytes;
  std::size_t position = 0;

  static int read(void* opaque, std::uint8_t* to, int size) {
    auto* file = static_cast<MemoryFile*>(opaque);
    const std::size_t n =
        std::min(static_cast<std::size_t>(size), file->bytes.size() - file->position);
    if (n == 0) return AVERROR_EOF;
    std::memcpy(to, file->bytes.data() + file->position, n);
    file->position += n;
    return static_cast<int>(n);
  }
  static std::int64_t seek(void* opaque, std::int64_t offset, int whence) {
    auto* file = static_cast<MemoryFile*>(opaque);
    const auto size = static_cast<std::int64_t>(file->bytes.size());
    if (whence & AVSEEK_SIZE) return size;
    const std::int64_t base = (whence & ~AVSEEK_FORCE) == SEEK_CUR
                                  ? static_cast<std::int64_t>(file->position)
                              : (whence & ~AVSEEK_FORCE) == SEEK_END ? size
                                                                     : 0;
    if (base + offset < 0 || base + offset > size) return AVERROR(EINVAL);
    file->position = static_cast<std::size_t>(base + offset);
    return base + offset;
  }
};

class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, const std::string& name, const DecodeOptions& options)
      : name_(name), options_(options), file_{.bytes = bytes} {}

  Clip run() {
    open_container();
    open_codec();
    read_frames();
    check_length();
    Clip clip;
    clip.rate_hz = options_.rate_hz;
    clip.samples = rate_hz_ == options_.rate_hz ? std::move(mono_) : resample();
    return clip;
  }

 private:
  template <class... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ExitCode::kBadData, name_, ": ", parts...);
  }

  void open_container() {
    const char* demuxer = demuxer_name(sniff_format(file_.bytes, name_));
    auto* buffer = static_cast<std::uint8_t*>(av_malloc(kIoBufferBytes));
    io_.reset(avio_alloc_context(buffer, kIoBufferBytes, 0, &file_, &MemoryFile::read, nullptr,
                                 &MemoryFile::seek));
    AVFormatContext* raw = avformat_alloc_context();
    raw->pb = io_.get();
    AVDictionary* options = nullptr;
    av_dict_set(&options, "format_whitelist", demuxer, 0);
    av_dict_set(&options, "protocol_whitelist", "", 0);
    last_message.clear();
    const int code = avformat_open_input(&raw, "", av_find_input_format(demuxer), &options);
    av_dict_free(&options);
    if (code < 0) reject("cannot be opened as ", demuxer, ": ", reason(code));
    format_.reset(raw);
    if (const int found = avformat_find_stream_info(raw, nullptr); found < 0) {
      reject("no stream could be read: ", reason(found));
    }
  }

  void open_codec() {
    const AVCodec* decoder = nullptr;
    stream_ = av_find_best_stream(format_.get(), AVMEDIA_TYPE_AUDIO, -1, -1, &decoder, 0);
    if (stream_ < 0 || decoder == nullptr) reject("has no audio stream that FFmpeg decodes");
    codec_.reset(avcodec_alloc_context3(decoder));
    avcodec_parameters_to_context(codec_.get(), stream()->codecpar);
    codec_->pkt_timebase = stream()->time_base;
    codec_->thread_count = 1;
    if (const int code = avcodec_open2(codec_.get(), decoder, nullptr); code < 0) {
      reject("the decoder did not start: ", reason(code));
    }
  }

  void read_frames() {
    const PacketPtr packet(av_packet_alloc());
    const FramePtr frame(av_frame_alloc());
    for (;;) {
      const int code = av_read_frame(format_.get(), packet.get());
      if (code < 0 && code != AVERROR_EOF) note_damage(code);
      if (code < 0) break;
      if (packet->stream_index == stream_) {
        const int sent = avcodec_send_packet(codec_.get(), packet.get());
        if (sent < 0) note_damage(sent);
        receive(frame.get());
      }
      av_packet_unref(packet.get());
    }
    avcodec_send_packet(codec_.get(), nullptr);
    receive(frame.get());
  }

  void receive(AVFrame* frame) {
    for (;;) {
      const int code = avcodec_receive_frame(codec_.get(), frame);
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      if (code < 0) {
        note_damage(code);
        return;
      }
      if (frame->decode_error_flags != 0) note_damage(AVERROR_INVALIDDATA);
      append(*frame);
      av_frame_unref(frame);
    }
  }

  // Takes the mean of all channels.
  void append(const AVFrame& frame) {
    const int channels = frame.ch_layout.nb_channels;
    if (rate_hz_ == 0) begin_audio(frame);
    if (frame.sample_rate != rate_hz_ || channels != channels_ || frame.format != format_of_) {
      reject("changes from ", rate_hz_, " Hz, ", channels_, " channels to ", frame.sample_rate,
             " Hz, ", channels, " channels midway");
    }
    const int n = frame.nb_samples;
    planar_.resize(static_cast<std::size_t>(channels) * n);
    std::uint8_t* planes[kMaxChannels];
    for (int c = 0; c < channels; ++c) {
      planes[c] = reinterpret_cast<std::uint8_t*>(planar_.data() + static_cast<std::size_t>(c) * n);
    }
    const int got = swr_convert(to_float_.get(), planes, n,
                                const_cast<const std::uint8_t**>(frame.extended_data), n);
    if (got != n) reject("could not be converted to float: ", reason(got));
    const std::size_t start = mono_.size();
    mono_.insert(mono_.end(), planar_.begin(), planar_.begin() + n);
    for (int c = 1; c < channels; ++c) {
      for (int i = 0; i < n; ++i) mono_[start + i] += planar_[static_cast<std::size_t>(c) * n + i];
    }
    if (channels > 1) {
      const float scale = 1.0f / static_cast<float>(channels);
      for (int i = 0; i < n; ++i) mono_[start + i] *= scale;
    }
    if (static_cast<double>(mono_.size()) > options_.max_seconds * rate_hz_) {
      reject("is longer than ", options_.max_seconds, " s");
    }
  }

  void begin_audio(const AVFrame& frame) {
    rate_hz_ = frame.sample_rate;
    channels_ = frame.ch_layout.nb_channels;
    format_of_ = frame.format;
    if (rate_hz_ < kMinRateHz || rate_hz_ > kMaxRateHz || channels_ < 1 ||
        channels_ > kMaxChannels) {
      reject("has ", channels_, " channels at ", rate_hz_, " Hz; want 1 to ", kMaxChannels, " at ",
             kMinRateHz, " to ", kMaxRateHz);
    }
    to_float_ = make_resampler(frame.ch_layout, static_cast<AVSampleFormat>(frame.format), rate_hz_,
                               frame.ch_layout, rate_hz_, AV_SAMPLE_FMT_FLTP);
  }

  ResamplerPtr make_resampler(AVChannelLayout in_layout, AVSampleFormat in_format, int in_rate_hz,
                              AVChannelLayout out_layout, int out_rate_hz,
                              AVSampleFormat out_format) const {
    SwrContext* raw = nullptr;
    int code = swr_alloc_set_opts2(&raw, &out_layout, out_format, out_rate_hz, &in_layout,
                                   in_format, in_rate_hz, 0, nullptr);
    ResamplerPtr out(raw);
    if (code >= 0 && in_rate_hz != out_rate_hz) {
      // A long filter with its edge at 0.97 of the band, and exact phases: no drift, no images.
      av_opt_set_int(raw, "filter_size", 64, 0);
      av_opt_set_double(raw, "cutoff", 0.97, 0);
      av_opt_set_int(raw, "exact_rational", 1, 0);
    }
    if (code >= 0) code = swr_init(raw);
    if (code < 0) reject("no conversion for this audio: ", ffmpeg_error(code));
    return out;
  }

  void check_length() const {
    if (damaged_ > 0 && !options_.tolerate_errors) {
      reject("damaged: ", damaged_, " frames could not be decoded (", first_damage_, ")");
    }
    const double seconds =
        rate_hz_ == 0 ? 0.0 : static_cast<double>(mono_.size()) / static_cast<double>(rate_hz_);
    if (mono_.empty()) reject("holds no audio");
    const AVStream* s = stream();
    if (s->duration != AV_NOPTS_VALUE && !options_.tolerate_errors &&
        format_->duration_estimation_method != AVFMT_DURATION_FROM_BITRATE) {
      const double claimed = static_cast<double>(s->duration) * av_q2d(s->time_base);
      if (seconds < claimed - kDurationTolerance - static_cast<double>(kCodecPadding) / rate_hz_) {
        reject("truncated: it claims ", claimed, " s and holds ", seconds, " s");
      }
    }
    if (seconds < options_.min_seconds) {
      reject("holds only ", seconds, " s of audio, want at least ", options_.min_seconds, " s");
    }
  }

  std::vector<float> resample() const {
    AVChannelLayout layout = AV_CHANNEL_LAYOUT_MONO;
    const ResamplerPtr swr = make_resampler(layout, AV_SAMPLE_FMT_FLTP, rate_hz_, layout,
                                            options_.rate_hz, AV_SAMPLE_FMT_FLTP);
    const auto wanted = static_cast<std::size_t>(
        std::llround(static_cast<double>(mono_.size()) * options_.rate_hz / rate_hz_));
    std::vector<float> out(wanted + 4096);
    auto* to = reinterpret_cast<std::uint8_t*>(out.data());
    const auto* from = reinterpret_cast<const std::uint8_t*>(mono_.data());
    const int first = swr_convert(swr.get(), &to, static_cast<int>(out.size()), &from,
                                  static_cast<int>(mono_.size()));
    if (first < 0) reject("could not be resampled: ", ffmpeg_error(first));
    std::size_t filled = static_cast<std::size_t>(first);
    while (filled < out.size()) {
      to = reinterpret_cast<std::uint8_t*>(out.data() + filled);
      const int more =
          swr_convert(swr.get(), &to, static_cast<int>(out.size() - filled), nullptr, 0);
      if (more <= 0) break;
      filled += static_cast<std::size_t>(more);
    }
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(std::min(filled, out.size())), out.end(),
              0.0f);
    out.resize(wanted);
    return out;
  }

  void note_damage(int code) {
    if (damaged_++ == 0) first_damage_ = reason(code);
  }
  static std::string reason(int code) {
    return last_message.empty() ? ffmpeg_error(code) : last_message;
  }
  const AVStream* stream() const { return format_->streams[stream_]; }

  const std::string& name_;
  const DecodeOptions& options_;
  MemoryFile file_;
  IoPtr io_;
  FormatPtr format_;  // destroyed before io_
  CodecPtr codec_;
  ResamplerPtr to_float_;
  int stream_ = -1;
  int rate_hz_ = 0, channels_ = 0, format_of_ = -1;
  std::int64_t damaged_ = 0;
  std::string first_damage_;
  std::vector<float> planar_, mono_;
};

}  // namespace

Clip decode(std::span<const std::byte> bytes, const std::string& name,
            const DecodeOptions& options) {
  silence_ffmpeg();
  return Decoder(bytes, name, options).run();
}

Clip decode_file(const std::filesystem::path& path, const DecodeOptions& options) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    fail(ExitCode::kInputMissing, path.string(), ": no such file");
  }
  if (!std::filesystem::is_regular_file(path, error)) {
    fail(ExitCode::kBadData, path.string(), ": not a regular file");
  }
  std::ifstream in(path, std::ios::binary);
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (!in || error) fail(ExitCode::kIo, path.string(), ": cannot be opened");
  std::vector<std::byte> bytes(size);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (in.gcount() != static_cast<std::streamsize>(size)) {
    fail(ExitCode::kIo, path.string(), ": read ", in.gcount(), " of ", size, " bytes");
  }
  return decode(bytes, path.string(), options);
}

}  // namespace onpa::audio
