#include "audio/decode.h"

#include <gtest/gtest.h>
#include <mpg123.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "audio/encode.h"
#include "audio/resample.h"
#include "kernels/philox.h"
#include "tests/audio/support.h"
#include "tests/support/temp_folder.h"

namespace onpa::audio {
namespace {

using testing::FileKind;
using testing::make_file;
using testing::make_tones;
using testing::mean_of_channels;
using testing::snr_db;
using testing::TempFolder;
using testing::write_bytes;

struct RoundTrip {
  FileKind kind;
  Format format;
  int channels, rate_hz;
  std::int64_t samples;
  double snr_db;  // lowest acceptable against the mean of the channels
  std::int64_t length_slack = 0;
};

void PrintTo(const RoundTrip& t, std::ostream* out) {
  *out << t.kind.encoder << " " << t.channels << " channels " << t.rate_hz << " Hz " << t.samples;
}

class DecodeRoundTrip : public ::testing::TestWithParam<RoundTrip> {};

TEST_P(DecodeRoundTrip, KeepsLengthAndSignal) {
  const RoundTrip& t = GetParam();
  if (!testing::has_encoder(t.kind.encoder)) GTEST_SKIP() << "no encoder " << t.kind.encoder;
  const auto planes = make_tones(t.channels, t.samples, t.rate_hz, t.rate_hz / 16.0);
  const Bytes file = make_file(t.kind, planes, t.rate_hz);
  EXPECT_EQ(sniff_format(file, "clip"), t.format);

  const Clip own = decode(file, "clip", {.rate_hz = t.rate_hz});
  EXPECT_EQ(own.rate_hz, t.rate_hz);
  EXPECT_NEAR(static_cast<double>(own.samples.size()), static_cast<double>(t.samples),
              static_cast<double>(t.length_slack));
  EXPECT_GT(fitted_snr_db(own.samples, mean_of_channels(planes)), t.snr_db);

  const Clip model = decode(file, "clip");
  EXPECT_EQ(model.rate_hz, kModelRateHz);
  EXPECT_EQ(
      static_cast<std::int64_t>(model.samples.size()),
      resampled_length(static_cast<std::int64_t>(own.samples.size()), t.rate_hz, kModelRateHz));
}

// Lossy bounds are a few dB under what the encoders reach on these tones; PCM's are those of its
// word length (6 dB a bit, the signal 9 dB under full scale).
const FileKind kMp3{"mp3", "libmp3lame"}, kMp3Low{"mp3", "libmp3lame", "", 32000};
INSTANTIATE_TEST_SUITE_P(
    Formats, DecodeRoundTrip,
    ::testing::Values(
        RoundTrip{kMp3, Format::kMp3, 2, 44100, 441000, 40},
        RoundTrip{kMp3, Format::kMp3, 1, 44100, 441000, 40},
        RoundTrip{kMp3, Format::kMp3, 2, 48000, 96001, 40},
        RoundTrip{kMp3, Format::kMp3, 1, 32000, 64000, 40},
        RoundTrip{kMp3, Format::kMp3, 1, 44100, 2205, 20},
        RoundTrip{kMp3Low, Format::kMp3, 1, 24000, 50000, 25},
        RoundTrip{kMp3Low, Format::kMp3, 2, 22050, 50001, 20},
        RoundTrip{kMp3Low, Format::kMp3, 1, 16000, 50000, 25},
        RoundTrip{kMp3Low, Format::kMp3, 2, 11025, 40000, 25},
        RoundTrip{kMp3Low, Format::kMp3, 1, 12000, 40000, 25},
        RoundTrip{kMp3Low, Format::kMp3, 1, 8000, 40000, 25},
        RoundTrip{{"wav", "pcm_u8"}, Format::kWav, 1, 8000, 8001, 30},
        RoundTrip{{"wav", "pcm_s16le"}, Format::kWav, 2, 44100, 44101, 78},
        RoundTrip{{"wav", "pcm_s24le"}, Format::kWav, 2, 48000, 48000, 125},
        RoundTrip{{"wav", "pcm_f32le"}, Format::kWav, 3, 32000, 40001, 130},
        RoundTrip{{"wav", "pcm_f64le"}, Format::kWav, 1, 96000, 96000, 130},
        RoundTrip{{"wav", "pcm_s16le", "rf64=always"}, Format::kWav, 1, 16000, 16000, 78},
        RoundTrip{{"flac", "flac"}, Format::kFlac, 2, 44100, 44101, 78},
        RoundTrip{{"ogg", "libvorbis"}, Format::kOgg, 2, 44100, 88201, 25},
        RoundTrip{{"ogg", "libopus"}, Format::kOgg, 2, 48000, 96001, 25},
        RoundTrip{{"ogg", "flac"}, Format::kOgg, 1, 32000, 40001, 78},
        // The edit list counts milliseconds.
        RoundTrip{{"ipod", "aac"}, Format::kM4a, 2, 44100, 88201, 20, 45},
        RoundTrip{{"ipod", "aac", "moov_size=20000"}, Format::kM4a, 1, 32000, 64000, 20, 33},
        RoundTrip{{"ipod", "alac"}, Format::kM4a, 2, 44100, 88201, 78}));

// Everything that libmpg123 says about a file.
std::vector<float> decode_mpg123(const Bytes& file) {
  mpg123_init();
  mpg123_handle* handle = mpg123_new(nullptr, nullptr);
  mpg123_param(handle, MPG123_ADD_FLAGS, MPG123_FORCE_FLOAT | MPG123_QUIET, 0);
  mpg123_open_feed(handle);
  mpg123_feed(handle, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  std::vector<float> interleaved, mono;
  long rate = 0;
  int channels = 0, encoding = 0;
  for (;;) {
    unsigned char* data = nullptr;
    std::size_t count = 0;
    off_t frame = 0;
    const int code = mpg123_decode_frame(handle, &frame, &data, &count);
    if (code == MPG123_NEW_FORMAT) mpg123_getformat(handle, &rate, &channels, &encoding);
    if (data) {
      const auto* p = reinterpret_cast<const float*>(data);
      interleaved.insert(interleaved.end(), p, p + count / sizeof(float));
    }
    if (code != MPG123_OK && code != MPG123_NEW_FORMAT) break;
  }
  mpg123_delete(handle);
  for (std::size_t i = 0; channels && i < interleaved.size() / channels; ++i) {
    float sum = 0;
    for (int c = 0; c < channels; ++c) sum += interleaved[i * channels + c];
    mono.push_back(sum / static_cast<float>(channels));
  }
  return mono;
}

// Tones under noise that swells, clicks (short blocks), a stretch of silence, the channels alike
// for half of the time: what an encoder switches its tools for. Within +-`peak`.
testing::Planes make_busy(int channels, int rate_hz, float peak = 1) {
  auto planes = make_tones(channels, rate_hz + 77, rate_hz, rate_hz / 10.0);
  Philox rng({.seed = 7, .stream = kStreamTest});
  const std::size_t size = planes[0].size();
  for (std::size_t i = 0; i < size; ++i) {
    const float swell = static_cast<float>(i % 9000) / 9000;
    const float shared = 0.2f * swell * static_cast<float>(rng.normal());
    const bool silent = i > size * 3 / 4 && i < size * 7 / 8;
    for (auto& plane : planes) {
      const float own = i < size / 2 ? 0 : 0.05f * static_cast<float>(rng.normal());
      const float click = i % 5003 < 3 ? 0.5f : 0;
      plane[i] = silent ? 0 : peak * std::clamp(plane[i] + shared + own + click, -1.0f, 1.0f);
    }
  }
  return planes;
}

// Two decoders of one file, the samples in the same places.
void expect_agreement(const Bytes& file, int rate_hz, float bound, const std::string& what) {
  const auto ours = decode(file, "clip", {.rate_hz = rate_hz}).samples;
  const auto theirs = decode_mpg123(file);
  ASSERT_EQ(ours.size(), theirs.size()) << what;
  float worst = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    worst = std::max(worst, std::abs(ours[i] - theirs[i]));
  }
  EXPECT_LT(worst, bound) << what;
}

// Both are in float: 2.4e-6 of full scale is the most that was seen.
TEST(DecodeMp3, AgreesWithAnotherDecoder) {
  for (const int rate_hz : {48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}) {
    const int top_kbps = rate_hz >= 32000 ? 320 : rate_hz >= 16000 ? 160 : 64;
    for (const int channels : {1, 2}) {
      const auto planes = make_busy(channels, rate_hz);
      for (const int kbps : {top_kbps / 8, top_kbps / 4, top_kbps / 2, top_kbps}) {
        expect_agreement(make_file({"mp3", "libmp3lame", "", 1000 * kbps}, planes, rate_hz),
                         rate_hz, 1e-5f,
                         detail::concat(rate_hz, " Hz, ", channels, " channels, ", kbps, " kbps"));
      }
    }
  }
}

// FFmpeg keeps 15 bits of a sample in layer 2 and limits it to full scale.
TEST(DecodeMp3, AgreesWithAnotherDecoderOnLayer2) {
  if (!testing::has_encoder("mp2")) GTEST_SKIP() << "no encoder mp2";
  for (const int rate_hz : {48000, 44100, 32000, 24000, 16000}) {
    for (const int channels : {1, 2}) {
      const int kbps = rate_hz >= 32000 ? 96 * channels : 64 * channels;
      expect_agreement(
          make_file({"mp2", "mp2", "", 1000 * kbps}, make_busy(channels, rate_hz, 0.5f), rate_hz),
          rate_hz, 0x1p-14f, detail::concat("layer 2, ", rate_hz, " Hz, ", channels, " channels"));
    }
  }
}

TEST(DecodeMp3, WithoutAHeaderFrameKeepsEveryFrame) {
  const auto planes = make_tones(1, 44100, 44100);
  const Bytes file =
      make_file({"mp3", "libmp3lame", "write_xing=0:id3v2_version=0"}, planes, 44100);
  const auto samples = decode(file, "clip", {.rate_hz = 44100}).samples;
  EXPECT_EQ(samples.size() % 1152, 0u);
  EXPECT_GE(samples.size(), 44100u + 1105u);
  EXPECT_EQ(samples.size(), decode_mpg123(file).size());
}

TEST(DecodeMp3, ReadsPastTagsAndPadding) {
  const auto planes = make_tones(1, 44100, 44100);
  const Bytes file = make_file({"mp3", "libmp3lame", "id3v2_version=0"}, planes, 44100);
  const auto want = decode(file, "clip").samples;
  const auto same = [&](const Bytes& before, const Bytes& after) {
    Bytes all = before;
    all.insert(all.end(), file.begin(), file.end());
    all.insert(all.end(), after.begin(), after.end());
    return decode(all, "clip").samples == want;
  };
  Bytes tag = bytes_of("ID3\x04");
  tag.resize(10 + 300, std::byte{0x20});
  tag[4] = tag[5] = tag[6] = tag[7] = std::byte{0};
  tag[8] = std::byte{2};  // 2 * 128 + 44 = 300
  tag[9] = std::byte{44};
  EXPECT_TRUE(same(tag, {}));
  EXPECT_TRUE(same(Bytes(1000), {}));
  Bytes id3v1 = bytes_of("TAG");
  id3v1.resize(128, std::byte{0x41});
  EXPECT_TRUE(same({}, id3v1));
  EXPECT_TRUE(same({}, Bytes(777)));
  EXPECT_TRUE(same({}, bytes_of("APETAGEX and what an APE tag holds")));
}

TEST(Decode, AveragesAllChannels) {
  std::vector<float> left(4000, 0.5f), right(4000, -0.25f), third(4000, 0.125f);
  const Bytes file = make_file({"wav", "pcm_f32le"}, {left, right, third}, 32000);
  for (const float v : decode(file, "clip").samples) EXPECT_NEAR(v, 0.125f, 1e-7);
}

TEST(Decode, IsTheSameFromManyThreads) {
  const Bytes file = make_file({"mp3", "libmp3lame"}, make_tones(2, 50000, 44100), 44100);
  const Bytes bad(5000, std::byte{0});
  const auto want = decode(file, "clip").samples;
  std::vector<std::thread> threads;
  std::vector<int> good(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        good[t] += decode(file, "clip").samples == want;
        EXPECT_THROW(decode(bad, "bad"), Error);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 5));
}

TEST(DecodeFile, ReadsAFileAndNamesAMissingOne) {
  const TempFolder folder;
  const auto path = folder / "tones.mp3";
  const Bytes file = make_file({"mp3", "libmp3lame"}, make_tones(1, 44100, 44100), 44100);
  write_bytes(path, file);
  EXPECT_EQ(decode_file(path).samples, decode(file, "clip").samples);
  std::filesystem::remove(path);
  const auto code_of = [](const std::filesystem::path& p) {
    try {
      decode_file(p);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(p.string()), std::string::npos);
      return error.code();
    }
    return ExitCode::kOk;
  };
  EXPECT_EQ(code_of(path), ExitCode::kInputMissing);
  EXPECT_EQ(code_of(folder.path()), ExitCode::kIo);
}

// The content decides, whatever the name says.
TEST(DecodeFile, ReadsAFileUnderAWrongExtension) {
  const TempFolder folder;
  const auto path = folder / "wav.mp3";
  const Bytes file = make_file({"wav", "pcm_s16le"}, make_tones(1, 32000, 32000), 32000);
  write_bytes(path, file);
  EXPECT_EQ(decode_file(path).samples, decode(file, "clip").samples);
}

TEST(EncodeMp3, RoundTripsToTheSample) {
  for (const int rate_hz : {16000, 22050, 24000, 32000, 44100, 48000}) {
    for (const std::int64_t samples : {std::int64_t{2500}, std::int64_t{rate_hz}}) {
      const Clip clip{.samples = make_tones(1, samples, rate_hz, 1500)[0], .rate_hz = rate_hz};
      const auto file = encode_mp3(clip, 96);
      EXPECT_EQ(file, encode_mp3(clip, 96)) << "encoding is repeatable";
      const Clip back = decode(file, "clip", {.rate_hz = rate_hz});
      EXPECT_EQ(back.samples.size(), clip.samples.size()) << rate_hz << " Hz";
      EXPECT_GT(fitted_snr_db(back.samples, clip.samples), 20) << rate_hz << " Hz";
    }
  }
}

TEST(EncodeMp3, RefusesOtherRatesAndEmptyClips) {
  EXPECT_THROW(encode_mp3({.samples = std::vector<float>(1000), .rate_hz = 31000}), Error);
  EXPECT_THROW(encode_mp3({.samples = {}, .rate_hz = 32000}), Error);
}

}  // namespace
}  // namespace onpa::audio
