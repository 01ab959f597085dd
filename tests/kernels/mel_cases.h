// Cases and reference of the mel front end's tests on every device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "kernels/mel.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {

constexpr float kMelRate = 32000;

struct MelSetting {
  std::int64_t win = 800, hop = 320, mels = 128;
  float fmin = 0, fmax = 15000;
};
inline MelBank mel_bank_of(const MelSetting& s) {
  return make_mel_bank(static_cast<int>(s.mels), kMelFft, kMelRate, s.fmin, s.fmax);
}

/// Everything of MelFwd but what is in memory.
template <class In = float, class Out = float>
MelFwd<In, Out> mel_args(const MelSetting& s, std::int64_t batch, std::int64_t samples) {
  return {.wave = nullptr,
          .y = nullptr,
          .bank = {},
          .mask = nullptr,
          .batch = batch,
          .samples = samples,
          .mels = s.mels,
          .frames = 1 + (samples - 1) / s.hop,
          .win = s.win,
          .hop = s.hop,
          .preemphasis = 0.97f,
          .log_offset = 1e-5f,
          .mean = -4.5f,
          .std = 5.0f};
}

/// 515 is the shortest allowed; then lengths below, at and over a group of frames, primes, a frame
/// that starts on the last sample.
inline constexpr std::int64_t kMelSamples[] = {515, 641, 2239, 2561, 2562, 5120, 5443, 12801};
/// Overlapping much, little and not at all; windows odd and full; hops odd; few bands.
inline const MelSetting kMelSettings[] = {{.hop = 160},
                                          {.hop = 100},
                                          {.win = 1024},
                                          {.win = 401, .hop = 161},
                                          {.hop = 3000},
                                          {.mels = 64, .fmin = 20, .fmax = 16000},
                                          {.mels = 1, .fmin = 3000, .fmax = 9000}};
constexpr std::int64_t kMelSettingSamples = 4001;

struct MelReference {
  std::vector<double> y, bound;  // bound: what fp32 may be off by, cell by cell
};

/// The front end from its definition, in double: a plain DFT and dense filters. The bound allows
/// each bin of an fp32 spectrum 8 ulp of the frame's norm (an FFT of 1024 has an rms error of about
/// 2), which weighs most where a band holds little of the frame's energy.
inline MelReference mel_reference(const std::vector<float>& wave, const MelSetting& s) {
  const std::int64_t length = static_cast<std::int64_t>(wave.size()) - 1;
  const std::int64_t frames = 1 + length / s.hop;
  std::vector<double> cosine(1024), sine(1024);
  for (int i = 0; i < 1024; ++i) {
    cosine[i] = std::cos(2 * std::numbers::pi * i / 1024);
    sine[i] = std::sin(2 * std::numbers::pi * i / 1024);
  }
  const auto emphasised = [&](std::int64_t i) {
    if (i < 0) i = -i;
    if (i >= length) i = 2 * (length - 1) - i;
    return static_cast<double>(wave[i + 1]) - 0.97 * static_cast<double>(wave[i]);
  };
  const auto mel_of = [](double hz) { return 1127 * std::log(1 + hz / 700); };
  const double low = mel_of(s.fmin),
               step = (mel_of(s.fmax) - low) / (static_cast<double>(s.mels) + 1);
  MelReference out;
  out.y.resize(static_cast<std::size_t>(s.mels * frames));
  out.bound.resize(out.y.size());
  for (std::int64_t t = 0; t < frames; ++t) {
    std::vector<double> frame(1024, 0.0), power(512);
    const std::int64_t left = (1024 - s.win) / 2;
    for (std::int64_t i = 0; i < s.win; ++i) {
      const double hann = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(i) /
                                               static_cast<double>(s.win - 1));
      frame[left + i] = hann * emphasised(t * s.hop + left + i - 512);
    }
    double energy = 0;
    for (const double v : frame) energy += v * v;
    const double bin_error = 8 * 0x1p-24 * std::sqrt(energy);
    for (std::int64_t k = 0; k < 512; ++k) {
      double re = 0, im = 0;
      for (std::int64_t i = 0; i < 1024; ++i) {
        re += frame[i] * cosine[i * k % 1024];
        im -= frame[i] * sine[i * k % 1024];
      }
      power[k] = re * re + im * im;
    }
    for (std::int64_t m = 0; m < s.mels; ++m) {
      const double centre = low + (static_cast<double>(m) + 1) * step;
      double sum = 0, error = 0;
      for (int k = 0; k < 512; ++k) {
        const double weight = std::max(0.0, 1 - std::abs(mel_of(31.25 * k) - centre) / step);
        sum += weight * power[k];
        error += weight * (2 * bin_error * std::sqrt(power[k]) + bin_error * bin_error);
      }
      out.y[m * frames + t] = (std::log(sum + 1e-5) + 4.5) / 5;
      out.bound[m * frames + t] = error / (5 * (sum + 1e-5)) + 1e-6;
    }
  }
  return out;
}

/// The largest error in units of its bound.
inline double max_error(const std::vector<float>& y, const MelReference& want) {
  EXPECT_EQ(y.size(), want.y.size());
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    worst = std::max(worst,
                     std::isfinite(y[i]) ? std::abs(y[i] - want.y[i]) / want.bound[i] : INFINITY);
  }
  return worst;
}

}  // namespace onpa::kernels
