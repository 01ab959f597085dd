// A stream must give what decode() makes of the whole file, wherever the bytes come from.
#include "audio/decode_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <utility>

#include "audio/byte_window.h"
#include "audio/mp3_walk.h"
#include "audio/resample.h"
#include "kernels/philox.h"
#include "tests/audio/support.h"
#include "tests/support/temp_folder.h"

namespace onpa::audio {
namespace {

using testing::FileKind;
using testing::make_file;
using testing::make_tones;

// What reading a file ends in: samples or the error's text.
struct Outcome {
  std::vector<float> samples;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

template <class Open>
Outcome read_all(Open&& open) {
  Outcome out;
  try {
    const auto stream = open();
    std::size_t before = 0;
    while (stream->read(out.samples)) {
      EXPECT_GT(out.samples.size(), before);
      // A block and what two filters and a frame hold back, not the file.
      EXPECT_LT(out.samples.size() - before, 200000u);
      before = out.samples.size();
    }
    EXPECT_EQ(stream->samples(), std::ssize(out.samples));
    EXPECT_FALSE(stream->read(out.samples));
  } catch (const Error& error) {
    out = {.samples = {}, .error = error.what()};
  }
  return out;
}

Outcome whole(const Bytes& file, const DecodeOptions& options) {
  try {
    return {.samples = decode(file, "clip", options).samples, .error = ""};
  } catch (const Error& error) {
    return {.samples = {}, .error = error.what()};
  }
}

Outcome from_memory(const Bytes& file, const DecodeOptions& options) {
  return read_all([&] { return std::make_unique<DecodeStream>(file, "clip", options); });
}

Outcome from_file(const Bytes& file, const DecodeOptions& options) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "clip", std::span<const std::byte>(file));
  return read_all([&] {
    const int descriptor = ::open((folder / "clip").c_str(), O_RDONLY);
    return std::make_unique<DecodeStream>(descriptor, "clip", options);
  });
}

// What a pipe ends in through which `start` comes, then `more` again and again, until it is closed
// or `most` bytes have come.
struct Flood {
  std::string error;
  std::size_t written = 0;
};
Flood from_flood(const Bytes& start, const Bytes& more, std::size_t most) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  std::signal(SIGPIPE, SIG_IGN);
  Flood out;
  std::thread writer([&] {
    for (const Bytes* part = &start; out.written < most; part = &more) {
      std::size_t at = 0;
      while (at < part->size()) {
        const ssize_t wrote = ::write(ends[1], part->data() + at, part->size() - at);
        if (wrote <= 0) return;
        at += static_cast<std::size_t>(wrote);
      }
      out.written += at;
    }
    ::close(std::exchange(ends[1], -1));
  });
  out.error = read_all([&] {
                return std::make_unique<DecodeStream>(ends[0], "clip", DecodeOptions{});
              }).error;
  writer.join();
  if (ends[1] >= 0) ::close(ends[1]);
  return out;
}

Outcome from_pipe(const Bytes& file, const DecodeOptions& options) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  std::signal(SIGPIPE, SIG_IGN);
  std::thread writer([&] {
    std::size_t at = 0, step = 1001;
    while (at < file.size()) {  // in pieces of many sizes
      const std::size_t count = std::min(step, file.size() - at);
      const ssize_t wrote = ::write(ends[1], file.data() + at, count);
      if (wrote <= 0) break;
      at += static_cast<std::size_t>(wrote);
      step = step % 40000 * 3 + 7;
    }
    ::close(ends[1]);
  });
  const Outcome out =
      read_all([&] { return std::make_unique<DecodeStream>(ends[0], "clip", options); });
  writer.join();
  return out;
}

struct Case {
  FileKind kind;
  int channels, rate_hz;
  std::int64_t samples;
  bool pipe = true;  // whether a pipe can hold it: an m4a whose index comes last cannot
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.kind.encoder << " " << c.channels << " channels " << c.rate_hz << " Hz " << c.samples;
}

class StreamEqualsWhole : public ::testing::TestWithParam<Case> {};

TEST_P(StreamEqualsWhole, FromMemoryFileAndPipe) {
  const Case& c = GetParam();
  if (!testing::has_encoder(c.kind.encoder)) GTEST_SKIP() << "no encoder " << c.kind.encoder;
  const Bytes file = make_file(c.kind, make_tones(c.channels, c.samples, c.rate_hz), c.rate_hz);
  for (const int rate_hz : {32000, 44100}) {
    const DecodeOptions options{.rate_hz = rate_hz};
    const Outcome want = whole(file, options);
    ASSERT_EQ(want.error, "");
    EXPECT_EQ(from_memory(file, options), want) << rate_hz;
    EXPECT_EQ(from_file(file, options), want) << rate_hz;
    if (!c.pipe) continue;
    EXPECT_EQ(from_pipe(file, options), want) << rate_hz;
  }
}

const FileKind kMp3{"mp3", "libmp3lame"}, kMp3Low{"mp3", "libmp3lame", "", 32000};
INSTANTIATE_TEST_SUITE_P(
    Formats, StreamEqualsWhole,
    ::testing::Values(
        Case{kMp3, 2, 44100, 441000}, Case{kMp3, 1, 48000, 96001}, Case{kMp3, 1, 32000, 300000},
        Case{kMp3, 1, 44100, 2205}, Case{kMp3Low, 1, 24000, 200000}, Case{kMp3Low, 2, 22050, 50001},
        Case{kMp3Low, 1, 8000, 40000}, Case{{"wav", "pcm_u8"}, 1, 8000, 80001},
        Case{{"wav", "pcm_s16le"}, 2, 44100, 441001}, Case{{"wav", "pcm_f32le"}, 3, 32000, 40001},
        Case{{"flac", "flac"}, 2, 44100, 441001}, Case{{"ogg", "libvorbis"}, 2, 44100, 288201},
        Case{{"ogg", "libopus"}, 2, 48000, 196001}, Case{{"ipod", "aac"}, 2, 44100, 88201, false},
        Case{{"ipod", "aac", "moov_size=20000"}, 1, 32000, 64000},
        Case{{"ipod", "alac"}, 2, 44100, 188201, false}));

TEST(DecodeStream, SaysWhyAPipeCannotHoldAnIndexAtTheEnd) {
  if (!testing::has_encoder("aac")) GTEST_SKIP();
  const Bytes file = make_file({"ipod", "aac"}, make_tones(1, 1000000, 32000), 32000);
  const std::string error = from_pipe(file, {}).error;
  EXPECT_NE(error.find("must have its index in front"), std::string::npos) << error;
}

// A wav that a program writes into a pipe cannot state its length.
TEST(DecodeStream, ReadsAWavOfUnknownLength) {
  Bytes file =
      make_file({"wav", "pcm_s16le", "fflags=+bitexact"}, make_tones(1, 70000, 32000), 32000);
  const Outcome want = whole(file, {});
  for (const std::size_t at : {4, 40}) std::fill_n(file.begin() + at, 4, std::byte{0xFF});
  EXPECT_EQ(from_pipe(file, {}), want);
}

// What cannot be read twice is held or waited for only so far.
TEST(DecodeStream, EndlessTagsAndZerosFromAPipeAreRefused) {
  constexpr std::size_t kMiB = 1 << 20, kMost = 600 * kMiB;
  Bytes tag = bytes_of({"ID3\4\0\0\0\x40\0\0", 10});
  tag.resize(tag.size() + kMiB);
  const Flood tags = from_flood(tag, tag, kMost);
  EXPECT_NE(tags.error.find("ID3 tags of"), std::string::npos) << tags.error;
  EXPECT_LT(tags.written, 80 * kMiB);
  const Bytes mp3 = make_file(kMp3, make_tones(1, 60000, 44100), 44100);
  for (const Bytes& start : {Bytes(1), mp3}) {
    const Flood zeros = from_flood(start, Bytes(kMiB), kMost);
    EXPECT_NE(zeros.error.find("16 MiB of zero bytes"), std::string::npos) << zeros.error;
    EXPECT_LT(zeros.written, 30 * kMiB);
  }
  const Flood junk = from_flood(mp3, Bytes(kMiB, std::byte{1}), kMost);
  EXPECT_NE(junk.error.find("no MPEG audio frame in 16 MiB"), std::string::npos) << junk.error;
  EXPECT_LT(junk.written, 30 * kMiB);
}

// The chunk before the data is said to take 4 GB; that much is not held to see what comes after it.
TEST(DecodeStream, AHugeChunkOfAWavIsNotHeld) {
  Bytes start = bytes_of({"RIFF\xFF\xFF\xFF\xFFWAVEjunk\xF0\xFF\xFF\xFF", 20});
  const auto peak_kib = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak_kib();
  const Flood got = from_flood(start, Bytes(1 << 20), std::size_t{400} << 20);
  EXPECT_NE(got.error.find("cannot read the wav file"), std::string::npos) << got.error;
  EXPECT_LT(peak_kib() - before, 128 << 10);
}

TEST(DecodeStream, LimitsOnlyWhatItIsTold) {
  const Bytes file = make_file({"wav", "pcm_s16le"}, make_tones(1, 64000, 32000), 32000);
  EXPECT_NE(from_file(file, {.max_seconds = 1}).error.find("longer than the limit of 1 s"),
            std::string::npos);
  EXPECT_EQ(from_file(file, {.max_seconds = 3}).samples.size(), 64000u);
}

TEST(DecodeStream, MissingFilesAndFoldersHaveTheirOwnErrors) {
  const testing::TempFolder folder;
  try {
    DecodeStream stream(folder / "none.wav");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputMissing);
  }
  try {
    DecodeStream stream(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
  }
}

// Damage is found or tolerated as in the whole file, with the same samples.
TEST(DecodeStream, TreatsDamageAsTheWholeFileDoes) {
  const struct {
    FileKind kind;
    int rate_hz;
  } cases[] = {{{"mp3", "libmp3lame"}, 48000},
               {{"mp3", "libmp3lame"}, 24000},
               {{"wav", "pcm_s16le"}, 48000},
               {{"flac", "flac"}, 48000},
               {{"ogg", "libvorbis"}, 48000}};
  Philox rng({.seed = 21, .stream = kStreamTest});
  int refused = 0, accepted = 0;
  for (const auto& [kind, rate_hz] : cases) {
    if (!testing::has_encoder(kind.encoder)) continue;
    const Bytes file = make_file(kind, make_tones(2, 30000, rate_hz), rate_hz);
    for (int trial = 0; trial < 25; ++trial) {
      Bytes damaged = file;
      for (std::uint32_t i = 0; i < 1 + rng.below(4); ++i) {
        damaged[rng.below(static_cast<std::uint32_t>(damaged.size()))] =
            static_cast<std::byte>(rng.below(256));
      }
      if (trial % 5 == 0) damaged.resize(rng.below(static_cast<std::uint32_t>(damaged.size())) + 1);
      if (trial % 7 == 0) damaged.resize(damaged.size() + 5000);  // zeros at the end
      const DecodeOptions options{.max_seconds = 5, .tolerate_errors = trial % 3 == 0};
      const Outcome want = whole(damaged, options);
      EXPECT_EQ(from_file(damaged, options), want) << kind.encoder << " trial " << trial;
      const Outcome piped = from_pipe(damaged, options);
      EXPECT_EQ(piped.error.empty(), want.error.empty())
          << kind.encoder << " trial " << trial << "\n"
          << piped.error << "\n"
          << want.error;
      EXPECT_EQ(piped.samples, want.samples) << kind.encoder << " trial " << trial;
      ++(want.error.empty() ? accepted : refused);
    }
  }
  EXPECT_GT(refused, 15);
  EXPECT_GT(accepted, 15);
}

TEST(StreamResampler, IsTheWholeResamplerBitByBit) {
  Philox rng({.seed = 5, .stream = kStreamTest});
  for (const auto& [from_hz, to_hz] : {std::pair{44100, 32000},
                                       {48000, 32000},
                                       {8000, 32000},
                                       {22050, 32000},
                                       {96000, 32000},
                                       {32000, 44100},
                                       {32000, 32000},
                                       {11025, 32000}}) {
    for (const std::int64_t samples : {1, 500, 7001, 100000}) {
      std::vector<float> wave(static_cast<std::size_t>(samples));
      for (float& v : wave) v = static_cast<float>(rng.normal());
      StreamResampler stream(from_hz, to_hz);
      std::vector<float> got;
      for (std::size_t at = 0; at < wave.size();) {
        const std::size_t count = std::min<std::size_t>(wave.size() - at, 1 + rng.below(9000));
        stream.push(std::span(wave).subspan(at, count), got);
        at += count;
      }
      stream.finish(got);
      EXPECT_EQ(got, resample(wave, from_hz, to_hz))
          << from_hz << " to " << to_hz << ", " << samples;
    }
  }
}

TEST(ByteWindow, LooksAnywhereInAFileAndForwardInAPipe) {
  Bytes bytes(300000);
  Philox rng({.seed = 6, .stream = kStreamTest});
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng.below(256));
  const testing::TempFolder folder;
  testing::write_bytes(folder / "bytes", std::span<const std::byte>(bytes));
  const int descriptor = ::open((folder / "bytes").c_str(), O_RDONLY);
  ASSERT_EQ(::lseek(descriptor, 1000, SEEK_SET), 1000);
  ByteWindow file(descriptor, "bytes");
  EXPECT_TRUE(file.is_seekable());
  EXPECT_EQ(file.size(), bytes.size() - 1000);
  for (const std::size_t at : {200000, 0, 70000, 298990, 10}) {
    const auto seen = file.view(at, 100);
    ASSERT_EQ(seen.size(), std::min<std::size_t>(100, bytes.size() - 1000 - at)) << at;
    EXPECT_TRUE(std::equal(seen.begin(), seen.end(), bytes.begin() + 1000 + static_cast<long>(at)));
    file.forget(at);
  }
  EXPECT_TRUE(file.view(400000, 1).empty());
}

}  // namespace
}  // namespace onpa::audio
