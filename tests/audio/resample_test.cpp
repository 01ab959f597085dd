#include "audio/resample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "audio/polyphase.h"
#include "kernels/philox.h"

namespace onpa::audio {
namespace {

std::vector<float> tone(double hz, int rate_hz, std::int64_t samples) {
  std::vector<float> out(static_cast<std::size_t>(samples));
  for (std::int64_t i = 0; i < samples; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<float>(
        std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / rate_hz + 0.3));
  }
  return out;
}

// Largest error against the same tone sampled at the new rate, away from the ends.
double tone_error(double hz, int from_hz, int to_hz) {
  const auto got = resample(tone(hz, from_hz, from_hz / 2), from_hz, to_hz);
  const auto want = tone(hz, to_hz, static_cast<std::int64_t>(got.size()));
  double worst = 0;
  for (std::size_t i = got.size() / 4; i < got.size() * 3 / 4; ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(got[i] - want[i])));
  }
  return worst;
}
double rms_inside(const std::vector<float>& wave) {
  double sum = 0;
  const std::size_t begin = wave.size() / 4, end = wave.size() * 3 / 4;
  for (std::size_t i = begin; i < end; ++i) sum += static_cast<double>(wave[i]) * wave[i];
  return std::sqrt(sum / static_cast<double>(end - begin));
}

// The same filter, summed in double over the definition: a Kaiser-windowed sinc of 48 zero
// crossings and beta 9 whose middle is 0.985 of the lower Nyquist frequency, made to pass a
// constant.
double windowed_sinc_at(const std::vector<float>& wave, double position, double ratio) {
  const double cutoff = 0.985 * std::min(1.0, ratio), width = 48 / cutoff;
  double sum = 0, weights = 0;
  const auto last = static_cast<std::int64_t>(std::floor(position + width));
  for (auto i = static_cast<std::int64_t>(std::ceil(position - width)); i <= last; ++i) {
    const double t = static_cast<double>(i) - position;
    if (std::abs(t) >= width) continue;
    const double angle = std::numbers::pi * cutoff * t, part = t / width;
    const double weight = (t == 0 ? 1 : std::sin(angle) / angle) *
                          std::cyl_bessel_i(0.0, 9 * std::sqrt(1 - part * part));
    weights += weight;
    if (i >= 0 && i < static_cast<std::int64_t>(wave.size())) {
      sum += weight * wave[static_cast<std::size_t>(i)];
    }
  }
  return sum / weights;
}

TEST(Resample, IsTheWindowedSincOfItsDefinition) {
  const struct {
    int from_hz, to_hz;
    std::int64_t samples;
  } cases[] = {
      {44100, 32000, 441 * 16},        // all 16 lanes full and no more
      {44100, 32000, 441 * 35 + 200},  // single periods and a part of one after them
      {44100, 32000, 441 * 12 + 7},    // some lanes empty
      {44100, 32000, 441 * 3},
      {44100, 32000, 50},
      {1009, 977, 500},             // a part of a long period
      {1009, 977, 1009 * 11 + 13},  // periods of no whole number of groups, together
      {48000, 32000, 3001},
      {96000, 32000, 2999},
      {8000, 32000, 777},
      {11025, 32000, 1500},
      {32000, 44100, 3001},
      {997, 1499, 5000},
      {16000, 32000, 1},
  };
  Philox rng({.seed = 5, .stream = kStreamTest});
  for (const auto& c : cases) {
    std::vector<float> wave(static_cast<std::size_t>(c.samples));
    for (float& v : wave) v = static_cast<float>(2 * rng.uniform() - 1);
    const auto got = resample(wave, c.from_hz, c.to_hz);
    double worst = 0;
    // A long wave in steps of 7, which come to every place in a group of 8.
    const std::size_t step = c.samples > 1000 ? 7 : 1;
    for (std::size_t m = 0; m < got.size(); m += step) {
      const double position = static_cast<double>(m) * c.from_hz / c.to_hz;
      const double want =
          windowed_sinc_at(wave, position, static_cast<double>(c.to_hz) / c.from_hz);
      worst = std::max(worst, std::abs(got[m] - want));
    }
    // Up to 296 products of at most 1, whose weights' magnitudes sum to about 3, in float.
    EXPECT_LT(worst, 1.5e-6) << c.from_hz << " to " << c.to_hz << " Hz, " << c.samples;
  }
}

TEST(Resample, KeepsTonesUpTo92PercentOfTheLowerNyquist) {
  const int rates[][2] = {{44100, 32000}, {48000, 32000}, {22050, 32000}, {8000, 32000},
                          {16000, 32000}, {11025, 32000}, {96000, 32000}, {32000, 44100}};
  for (const auto& [from_hz, to_hz] : rates) {
    const double nyquist = 0.5 * std::min(from_hz, to_hz);
    for (const double part : {0.01, 0.3, 0.7, 0.92}) {
      EXPECT_LT(tone_error(part * nyquist, from_hz, to_hz), 1.2e-3)  // 0.01 dB
          << part << " of Nyquist, " << from_hz << " to " << to_hz;
    }
  }
}

TEST(Resample, RemovesWhatWouldFoldIntoTheMelBands) {
  // A tone above 1.06 of the new Nyquist frequency folds below 0.94 of it.
  const double full = rms_inside(tone(1000, 44100, 22050));
  for (const double hz : {17000.0, 18500.0, 21000.0}) {
    const double left = rms_inside(resample(tone(hz, 44100, 22050), 44100, 32000));
    EXPECT_LT(20 * std::log10(left / full), -88) << hz << " Hz";
  }
}

TEST(Resample, LengthIsTheCeilingOfTheRatio) {
  EXPECT_EQ(resampled_length(441000, 44100, 32000), 320000);
  EXPECT_EQ(resampled_length(441001, 44100, 32000), 320001);
  EXPECT_EQ(resampled_length(1, 48000, 32000), 1);
  for (const std::int64_t n : {1, 2, 3, 7, 440, 441, 442, 12345}) {
    EXPECT_EQ(static_cast<std::int64_t>(
                  resample(std::vector<float>(static_cast<std::size_t>(n)), 44100, 32000).size()),
              (n * 320 + 440) / 441);
  }
  EXPECT_TRUE(resample({}, 44100, 32000).empty());
}

TEST(Resample, PassesAConstantUnchangedAndTheSameRateExactly) {
  const std::vector<float> ones(4000, 0.75f);
  const auto out = resample(ones, 44100, 32000);
  for (std::size_t i = 300; i + 300 < out.size(); ++i) EXPECT_NEAR(out[i], 0.75f, 1e-6);
  const auto wave = tone(500, 32000, 999);
  EXPECT_EQ(resample(wave, 32000, 32000), wave);
}

TEST(Resample, HasNoDelay) {
  std::vector<float> pulse(441 * 4, 0.0f);
  pulse[441 * 2] = 1;
  const auto out = resample(pulse, 44100, 32000);
  const auto peak = std::max_element(out.begin(), out.end()) - out.begin();
  EXPECT_EQ(peak, 320 * 2);
  for (int i = 1; i < 100; ++i) EXPECT_NEAR(out[640 - i], out[640 + i], 1e-6) << i;
}

TEST(Resample, RefusesFiltersThatGrowWithoutMeasure) {
  EXPECT_TRUE(can_resample(32000, 32000));
  for (const int rate_hz : {1000, 1009, 11025, 44100, 44101, 96001, 176400, 192000, 768000}) {
    EXPECT_TRUE(can_resample(rate_hz, 32000)) << rate_hz;
  }
  for (const int rate_hz : {191999, 383999, 767951, 767999}) {
    EXPECT_FALSE(can_resample(rate_hz, 32000)) << rate_hz;
  }
}

TEST(PolyphaseFilters, KeepNoMoreBytesThanTheyMay) {
  const std::int64_t one = polyphase_bytes(320, 441);
  EXPECT_GT(one, 320 * 97 * 4);
  PolyphaseFilters filters(2 * one + one / 2);
  const auto first = filters.get(320, 441);
  EXPECT_EQ(first->bytes(), one);
  EXPECT_EQ(std::ssize(first->weight), first->weights());
  EXPECT_EQ(filters.get(320, 441), first);
  for (const std::int64_t down : {442, 443, 444, 445}) {
    filters.get(320, down);
    EXPECT_LE(filters.bytes(), 2 * one + one / 2);
    EXPECT_GT(filters.bytes(), 0);
  }
  EXPECT_NE(filters.get(320, 441), first) << "it was dropped for others";
  const std::int64_t kept = filters.bytes();
  EXPECT_GT(filters.get(320, 4410)->bytes(), 2 * one + one / 2);
  EXPECT_LE(filters.bytes(), kept) << "too large to be kept";
}

}  // namespace
}  // namespace onpa::audio
