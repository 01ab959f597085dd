// Files that must be refused with their name and the reason, and never crash the decoder.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "audio/mp3_frames.h"
#include "kernels/philox.h"
#include "tests/audio/support.h"

namespace onpa::audio {
namespace {

using testing::make_file;
using testing::make_tones;

Bytes mp3(int rate_hz = 44100, int channels = 1, std::int64_t samples = 60000) {
  return make_file({"mp3", "libmp3lame", "id3v2_version=0"}, make_tones(channels, samples, rate_hz),
                   rate_hz);
}
Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(BadFiles, ThatHoldNoAudio) {
  EXPECT_REFUSED(Bytes{}, "empty file");
  EXPECT_REFUSED(Bytes(10000), "only zero bytes");
  EXPECT_REFUSED(bytes_of("a"), "text");
  EXPECT_REFUSED(bytes_of("just some words\nand more of them\n"), "text");
  EXPECT_REFUSED(bytes_of("<!DOCTYPE html><html><body>404 Not Found</body></html>"), "HTML");
  EXPECT_REFUSED(bytes_of("\n<HTML><head><title>404</title></head></HTML>"), "HTML");
  EXPECT_REFUSED(bytes_of("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/hostname\n"),
                 "playlist");
  EXPECT_REFUSED(bytes_of("ffconcat version 1.0\nfile /etc/hostname\n"), "playlist");
  EXPECT_REFUSED(bytes_of("[playlist]\nFile1=x.mp3\n"), "playlist");
  Bytes random(20000);
  Philox rng({.seed = 3, .stream = kStreamTest});
  for (auto& b : random) b = static_cast<std::byte>(rng.below(256));
  EXPECT_REFUSED(random, "no known audio format");
  EXPECT_REFUSED(bytes_of("\xff\xf1\x50\x80\x02\x1f\xfc"), "ADTS");
}

TEST(BadFiles, TagsWithoutAudio) {
  Bytes only = bytes_of("ID3\x04");
  only.resize(10 + 100);
  only[9] = std::byte{100};
  EXPECT_REFUSED(only, "an ID3 tag and no audio");
  EXPECT_REFUSED(only + Bytes(50), "an ID3 tag and no audio");
  Bytes huge = only + mp3();
  huge[6] = std::byte{0x7F};
  EXPECT_REFUSED(huge, "tag longer than the file");
}

TEST(BadFiles, CutInTheMiddle) {
  const auto planes = make_tones(2, 60000, 48000);
  const struct {
    testing::FileKind kind;
    const char* reason;
  } cases[] = {{{"mp3", "libmp3lame"}, "truncated"},
               {{"wav", "pcm_s16le"}, "truncated"},
               {{"flac", "flac"}, ""},
               {{"ogg", "libvorbis"}, "truncated"},
               {{"ogg", "libopus"}, "truncated"},
               {{"ipod", "aac"}, "moov"},
               {{"ipod", "aac", "moov_size=20000"}, ""},
               {{"ipod", "alac", "moov_size=20000"}, ""}};
  for (const auto& c : cases) {
    if (!testing::has_encoder(c.kind.encoder)) continue;
    const Bytes file = make_file(c.kind, planes, 48000);
    ASSERT_EQ(refusal(file), "accepted") << c.kind.encoder;
    for (const double part : {0.3, 0.5, 0.9}) {
      Bytes cut = file;
      cut.resize(static_cast<std::size_t>(part * static_cast<double>(file.size())));
      const std::string got = refusal(cut);
      EXPECT_NE(got, "accepted") << c.kind.encoder << " cut at " << part;
      EXPECT_NE(got.find(c.reason), std::string::npos) << c.kind.encoder << ": " << got;
    }
  }
}

TEST(BadFiles, WavsWithDamagedHeaders) {
  const Bytes file =
      make_file({"wav", "pcm_s16le", "fflags=+bitexact"}, make_tones(1, 8000, 8000), 8000);
  for (std::size_t length = 0; length < 60; ++length) {
    EXPECT_NE(refusal(Bytes(file.begin(), file.begin() + static_cast<long>(length))), "accepted")
        << length;
  }
}

// A comment that is said to take 1 GB, in front of the audio: it is not allocated.
TEST(BadFiles, WavWithAHugeComment) {
  Bytes file = make_file({"wav", "pcm_s16le", "fflags=+bitexact"}, make_tones(1, 8000, 8000), 8000);
  const Bytes comment = bytes_of("LIST\xff\xff\xff\x50INFOISFT\xff\xff\xff\x40some words");
  file.insert(file.begin() + 36, comment.begin(), comment.end());
  const auto peak_kib = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak_kib();
  EXPECT_REFUSED(file, "cannot read the wav file");
  EXPECT_LT(peak_kib() - before, 256 << 10);
}

void put_u32(Bytes& file, std::size_t at, std::uint32_t value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

// Lengths that stand for an unknown one are those of sox and arecord, or all bits.
TEST(BadFiles, WavsThatStateMoreThanTheyHold) {
  const Bytes good =
      make_file({"wav", "pcm_s16le", "fflags=+bitexact"}, make_tones(2, 8000, 32000), 32000);
  const Clip want = decode(good, "clip");
  for (const std::uint32_t size : {0x7FFFF000u, 0x7FFFFF00u, 0x7FFF0000u, 0x7FFFFFFFu, 0x80000000u,
                                   0xFFFFFFFEu, 0xFFFFF000u, 0xFFFFFFFFu, 0u}) {
    Bytes file = good;
    put_u32(file, 40, size);
    EXPECT_EQ(decode(file, "clip").samples, want.samples) << size;
  }
  for (const std::uint32_t size : {32004u, 0x7FFE0000u, 0x80000004u, 0xFFFE0000u}) {
    Bytes file = good;
    put_u32(file, 40, size);
    EXPECT_REFUSED(file, "truncated");
  }
}

// A last sample frame that is not whole, all of it inside the stated length.
TEST(BadFiles, WavsWithAnOddByteAtTheEndAreHeard) {
  const testing::FileKind kind{"wav", "pcm_s16le", "fflags=+bitexact"};
  for (const std::int64_t samples : {8000, 4096, 4095}) {
    const Bytes good = make_file(kind, make_tones(2, samples, 32000), 32000);
    const Clip want = decode(good, "clip");
    for (const std::uint32_t more : {1u, 2u, 3u}) {
      Bytes file = good;
      put_u32(file, 40, static_cast<std::uint32_t>(samples) * 4 + more);
      EXPECT_EQ(decode(file + Bytes(more), "clip").samples, want.samples) << more;
      EXPECT_EQ(decode(file + Bytes(more + more % 2), "clip").samples, want.samples) << more;
    }
  }
}

TEST(BadFiles, Mp3CutBetweenFrames) {
  const Bytes file = mp3();
  const Mp3Layout layout = scan_mp3(file, "clip");
  ASSERT_GT(layout.frames.size(), 20u);
  Bytes cut = file;
  cut.resize(layout.frames[layout.frames.size() / 2].offset);
  EXPECT_REFUSED(cut, "truncated: the header states");
  Bytes first(file.begin(), file.begin() + 100);
  EXPECT_REFUSED(first, "truncated");
}

TEST(BadFiles, Mp3WithAHoleOrJunk) {
  const Bytes file = mp3(44100, 2, 120000);
  Bytes hole = file;
  std::fill(hole.begin() + 8000, hole.begin() + 14000, std::byte{0});
  EXPECT_REFUSED(hole, "are not MPEG frames");
  Bytes junk(file.begin(), file.begin() + 9000);
  junk = junk + bytes_of("these bytes are no frame") + Bytes(file.begin() + 9000, file.end());
  EXPECT_REFUSED(junk, "are not MPEG frames");
  // Tolerated, the audio after the hole keeps coming.
  const Clip clip = decode(hole, "clip", {.tolerate_errors = true});
  EXPECT_GT(clip.seconds(), 2.0);
  EXPECT_LE(clip.seconds(), 120000 / 44100.0);
}

TEST(BadFiles, StreamsThatChangeMidway) {
  EXPECT_REFUSED(mp3(44100) + mp3(48000), "changes from 44100 Hz mono");
  EXPECT_REFUSED(mp3(44100, 1) + mp3(44100, 2), "stereo");
  EXPECT_REFUSED(mp3(44100) + mp3(22050), "22050 Hz");
  EXPECT_REFUSED(mp3(44100) + mp3(44100), "the header states");
  if (testing::has_encoder("libvorbis")) {
    const Bytes ogg = make_file({"ogg", "libvorbis"}, make_tones(1, 44100, 44100), 44100);
    EXPECT_REFUSED(ogg + ogg, "chained Ogg");
  }
}

Bytes zeros(std::size_t count) {
  return Bytes(count);
}
// ID3v1, ID3v2 with 300 bytes (as 2 * 128 + 44), APEv2 with its header, lyrics.
std::vector<Bytes> tags() {
  const Bytes ape_size = bytes_of({"\x84\x00\x00\x00", 4}), header = bytes_of({"\0\0\0\xA0", 4});
  const Bytes ape = bytes_of("APETAGEX") + zeros(4) + ape_size + zeros(4) + header + zeros(8);
  return {bytes_of("TAG") + zeros(125),
          bytes_of("TAG+") + zeros(223) + bytes_of("TAG") + zeros(125),
          bytes_of({"ID3\4\0\0\0\0\x02\x2C", 10}) + Bytes(300, std::byte{0xFF}),
          ape + Bytes(100, std::byte{0xFF}) + bytes_of("APETAGEX") + zeros(24),
          bytes_of("LYRICSBEGINLAL00003abc000018LYRICS200")};
}

// A second file behind the first one's tags is no part of the audio, and no trailer either.
TEST(BadFiles, Mp3sThatFollowATag) {
  const Bytes file = mp3(), other = mp3(48000);
  for (const Bytes& tag : tags()) {
    for (const Bytes& between : {tag, tag + zeros(5000), zeros(5000) + tag, tag + tag}) {
      const std::size_t second = file.size() + between.size();
      EXPECT_REFUSED(file + between + file,
                     "a second stream begins at byte " + std::to_string(second));
      EXPECT_REFUSED(file + between + other, "changes from 44100 Hz mono");
      const Clip clip = decode(file + between + file, "clip", {.tolerate_errors = true});
      EXPECT_GT(clip.seconds(), 2.5);
      EXPECT_EQ(decode(file + between, "clip").samples, decode(file, "clip").samples);
    }
  }
  // One frame alone, as tags may have it in them, is no stream.
  const Bytes frame(file.end() - 418, file.end());
  EXPECT_EQ(refusal(file + tags()[0] + frame + zeros(3)), "accepted");
}

TEST(BadFiles, ChecksumsThatFail) {
  for (const auto& kind : {testing::FileKind{"flac", "flac"}, testing::FileKind{"ogg", "libvorbis"},
                           testing::FileKind{"ogg", "libopus"}}) {
    if (!testing::has_encoder(kind.encoder)) continue;
    Bytes file = make_file(kind, make_tones(1, 96000, 48000), 48000);
    file[file.size() * 2 / 3] ^= std::byte{0x10};
    EXPECT_NE(refusal(file), "accepted") << kind.encoder;
  }
}

TEST(BadFiles, LengthsOutOfBounds) {
  const Bytes wav = make_file({"wav", "pcm_s16le"}, make_tones(1, 1000, 32000), 32000);
  EXPECT_REFUSED(wav, "0.03125 s of audio");
  EXPECT_NE(refusal(mp3(), {.max_seconds = 1}).find("longer than the limit of 1 s"),
            std::string::npos);
  EXPECT_EQ(refusal(mp3(), {.max_seconds = 2}), "accepted");
  const Bytes none = make_file({"wav", "pcm_s16le"}, {std::vector<float>(0)}, 32000);
  EXPECT_REFUSED(none, "no audio");
}

TEST(BadFiles, SamplesThatAreNotNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const int at : {0, 255, 256, 1234, 4863, 4864, 4999}) {
      std::vector<float> samples(5000, 0.1f);
      samples[static_cast<std::size_t>(at)] = bad;
      EXPECT_REFUSED(make_file({"wav", "pcm_f32le"}, {samples}, 32000),
                     "sample " + std::to_string(at) + " is not a finite number");
    }
  }
}

// Spectrograms of what is far above full scale are finite and mean nothing.
TEST(BadFiles, SamplesThatAreTooLarge) {
  for (const float bad : {1.01e6f, -1e30f}) {
    for (const int at : {255, 256, 4999}) {
      std::vector<float> samples(5000, 1e6f);
      const testing::FileKind kind{"wav", "pcm_f32le"};
      EXPECT_EQ(refusal(make_file(kind, {samples}, 32000)), "accepted");
      samples[static_cast<std::size_t>(at)] = bad;
      EXPECT_REFUSED(make_file(kind, {samples}, 32000), "sample " + std::to_string(at) + " is ");
    }
  }
}

TEST(BadFiles, RatesWhoseResamplerWouldBeHuge) {
  const testing::FileKind kind{"wav", "pcm_s16le"};
  for (const int rate_hz : {199999, 767999}) {
    EXPECT_REFUSED(make_file(kind, make_tones(1, 40000, 48000), rate_hz),
                   "a rate of " + std::to_string(rate_hz) + " Hz");
  }
  for (const int rate_hz : {192000, 352800, 384000, 705600, 768000}) {
    EXPECT_EQ(refusal(make_file(kind, make_tones(1, 40000, 48000), rate_hz)), "accepted");
  }
}

// Damage anywhere ends in an Error or in finite audio of bounded length, never in anything else.
TEST(BadFiles, RandomDamageNeverEscapes) {
  const struct {
    testing::FileKind kind;
    int rate_hz;
  } cases[] = {{{"mp3", "libmp3lame"}, 48000}, {{"mp3", "libmp3lame"}, 24000},
               {{"wav", "pcm_s16le"}, 48000},  {{"flac", "flac"}, 48000},
               {{"ogg", "libvorbis"}, 48000},  {{"ogg", "libopus"}, 48000},
               {{"ipod", "aac"}, 48000}};
  Philox rng({.seed = 11, .stream = kStreamTest});
  int refused = 0, accepted = 0;
  for (const auto& [kind, rate_hz] : cases) {
    if (!testing::has_encoder(kind.encoder)) continue;
    const Bytes file = make_file(kind, make_tones(2, 12000, rate_hz), rate_hz);
    for (int trial = 0; trial < 60; ++trial) {
      Bytes damaged = file;
      const int count = 1 + static_cast<int>(rng.below(8));
      // Half of the trials aim at the headers.
      const std::size_t range =
          trial % 2 ? damaged.size() : std::min<std::size_t>(damaged.size(), 200);
      for (int i = 0; i < count; ++i)
        damaged[rng.below(static_cast<std::uint32_t>(range))] =
            static_cast<std::byte>(rng.below(256));
      if (trial % 5 == 0) damaged.resize(rng.below(static_cast<std::uint32_t>(damaged.size())) + 1);
      try {
        const Clip clip =
            decode(damaged, "clip", {.max_seconds = 5, .tolerate_errors = trial % 3 == 0});
        for (const float v : clip.samples) ASSERT_TRUE(std::isfinite(v));
        EXPECT_LE(clip.seconds(), 5.1);
        ++accepted;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kBadData) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace onpa::audio
