// Frames of layer III that are damaged inside: both decoders' ways to tell, 24 kHz being
// libmpg123's and 44.1 kHz FFmpeg's.
#include <gtest/gtest.h>

#include "audio/mp3_frames.h"
#include "tests/audio/support.h"

namespace onpa::audio {
namespace {

using testing::make_file;
using testing::make_tones;

constexpr int kRatesHz[] = {44100, 24000};

Bytes mp3(int rate_hz, int channels) {
  return make_file({"mp3", "libmp3lame", "id3v2_version=0"}, make_tones(channels, 60000, rate_hz),
                   rate_hz);
}

std::span<const std::byte> bytes_of(const Bytes& file, const MpegFrame& frame) {
  return std::span(file).subspan(frame.offset, static_cast<std::size_t>(frame.bytes));
}

void set_bits(Bytes& file, std::size_t first_bit, std::size_t count, std::uint32_t value) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = first_bit + i;
    const std::byte mask{static_cast<unsigned char>(0x80 >> at % 8)};
    file[at / 8] &= ~mask;
    if (value >> (count - 1 - i) & 1) file[at / 8] |= mask;
  }
}

// Bits of the side information before the first granule's.
std::size_t bits_before_granules(const MpegHeader& header) {
  const std::size_t channels = header.mono ? 1 : 2;
  if (header.version != 1) return 8 + channels;
  return (header.mono ? 14 : 12) + 4 * channels;
}

TEST(Mp3Damage, NoneInWhatAnEncoderWrites) {
  for (const int rate_hz : {48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}) {
    for (const int channels : {1, 2}) {
      const Bytes file = mp3(rate_hz, channels);
      const Mp3Layout layout = scan_mp3(file, "clip");
      for (const MpegFrame& frame : layout.frames) {
        const auto damage = find_layer3_damage(bytes_of(file, frame), layout.header);
        ASSERT_FALSE(damage) << rate_hz << " Hz, byte " << frame.offset << ": " << damage->what;
      }
    }
  }
}

// One frame's side information asks for what there is not; the file's other frames are good.
void expect_lost_frame(const Bytes& broken, const Mp3Layout& layout, int rate_hz, int lost,
                       const std::string& what) {
  const MpegFrame& frame = layout.frames[static_cast<std::size_t>(lost)];
  const auto damage = find_layer3_damage(bytes_of(broken, frame), layout.header);
  ASSERT_TRUE(damage) << rate_hz << " Hz";
  EXPECT_TRUE(damage->is_lost);
  EXPECT_NE(damage->what.find(what), std::string::npos) << damage->what;
  const std::string got = refusal(broken);
  EXPECT_NE(got, "accepted") << rate_hz << " Hz";
  if (rate_hz == 24000) {
    EXPECT_NE(got.find(detail::concat("the frame at byte ", frame.offset)), std::string::npos)
        << got;
  }
  const Clip clip = decode(broken, "clip", {.rate_hz = rate_hz, .tolerate_errors = true});
  ASSERT_EQ(clip.samples.size(), 60000u) << "a lost frame keeps its place in time";
  const std::int64_t at = lost * layout.header.samples - layout.skip_start;
  for (std::int64_t i = at; i < at + layout.header.samples; ++i) {
    ASSERT_EQ(clip.samples[static_cast<std::size_t>(i)], 0) << rate_hz << " Hz, sample " << i;
  }
}

TEST(Mp3Damage, LosesAFrameWithTooManyBigValues) {
  for (const int rate_hz : kRatesHz) {
    for (const int channels : {1, 2}) {
      Bytes broken = mp3(rate_hz, channels);
      const Mp3Layout layout = scan_mp3(broken, "clip");
      const std::size_t side = layout.frames[20].offset * 8 + 32;
      set_bits(broken, side + bits_before_granules(layout.header) + 12, 9, 289);
      expect_lost_frame(broken, layout, rate_hz, 20, "289 pairs of big values");
    }
  }
}

TEST(Mp3Damage, LosesAFrameWithAWindowOfNoType) {
  for (const int rate_hz : kRatesHz) {
    for (const int channels : {1, 2}) {
      Bytes broken = mp3(rate_hz, channels);
      const Mp3Layout layout = scan_mp3(broken, "clip");
      const std::size_t side = layout.frames[20].offset * 8 + 32;
      const std::size_t before_switch = layout.header.version == 1 ? 33 : 38;
      set_bits(broken, side + bits_before_granules(layout.header) + before_switch, 3, 4);
      expect_lost_frame(broken, layout, rate_hz, 20, "without a block type");
    }
  }
}

// Silent frames with checksums: the side information and what follows are zeros.
Bytes silence_with_checksums(int rate_hz, int frames) {
  const bool mpeg1 = rate_hz == 44100;
  const auto byte = [](int value) { return static_cast<std::byte>(value); };
  Bytes frame(mpeg1 ? 417 : 192);
  frame[0] = byte(0xFF);
  frame[1] = byte(mpeg1 ? 0xFA : 0xF2);
  frame[2] = byte(mpeg1 ? 0x90 : 0x84);  // 128 kbit/s, or 64; 44.1 or 24 kHz
  // CRC-16 of the header's last two bytes and of 32 or 17 zeros, a bit at a time.
  std::uint32_t crc = 0xFFFF;
  for (std::size_t bit = 0; bit < (mpeg1 ? 34 : 19) * 8; ++bit) {
    const bool in = bit < 16 && (std::to_integer<int>(frame[2 + bit / 8]) >> (7 - bit % 8) & 1);
    const bool out = (crc >> 15 & 1) != 0;
    crc = crc << 1 & 0xFFFF;
    if (in != out) crc ^= 0x8005;
  }
  frame[4] = byte(static_cast<int>(crc >> 8));
  frame[5] = byte(static_cast<int>(crc & 0xFF));
  Bytes file;
  for (int i = 0; i < frames; ++i) file.insert(file.end(), frame.begin(), frame.end());
  return file;
}

TEST(Mp3Damage, ReportsAChecksumThatDoesNotMatch) {
  for (const int rate_hz : kRatesHz) {
    const Bytes good = silence_with_checksums(rate_hz, 12);
    const Mp3Layout layout = scan_mp3(good, "clip");
    ASSERT_EQ(layout.frames.size(), 12u);
    const Clip silent = decode(good, "clip", {.rate_hz = rate_hz});
    EXPECT_EQ(silent.samples,
              std::vector<float>(static_cast<std::size_t>(12 * layout.header.samples)));
    for (const std::size_t at : {std::size_t{5}, std::size_t{7}}) {
      Bytes bad = good;
      bad[layout.frames[6].offset + at] ^= std::byte{0x01};  // the checksum, a private bit
      const auto damage = find_layer3_damage(bytes_of(bad, layout.frames[6]), layout.header);
      ASSERT_TRUE(damage);
      EXPECT_FALSE(damage->is_lost);
      EXPECT_NE(refusal(bad), "accepted") << rate_hz << " Hz, byte " << at;
      EXPECT_EQ(decode(bad, "clip", {.rate_hz = rate_hz, .tolerate_errors = true}).samples.size(),
                silent.samples.size());
    }
  }
}

TEST(Mp3Damage, NamesAFrameWithoutRoomForItsSideInformation) {
  const MpegHeader header{.version = 1, .layer = 3, .rate_hz = 44100, .bytes = 30, .samples = 1152};
  Bytes frame(30);
  frame[1] = std::byte{0xFB};
  const auto damage = find_layer3_damage(frame, header);
  ASSERT_TRUE(damage);
  EXPECT_TRUE(damage->is_lost);
}

}  // namespace
}  // namespace onpa::audio
