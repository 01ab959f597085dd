// The synthesis of one clip.
#include <algorithm>
#include <array>
#include <cmath>

#include "apps/study/corpus.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

constexpr double kPi = 3.141592653589793;
constexpr int kRate = audio::kModelRateHz;
constexpr int kHarmonics = 24;
constexpr double kTopHz = 12000;
constexpr double kSurfaceNoiseDb = -18;  // of the planted genre, RMS re full scale

using Samples = std::vector<double>;

// A second-order section. Source: R. Bristow-Johnson, "Audio EQ cookbook".
struct Biquad {
  double b0, b1, b2, a1, a2;
  double z1 = 0, z2 = 0;

  static Biquad pass(double hz, double q, bool high) {
    const double w = 2 * kPi * hz / kRate, alpha = std::sin(w) / (2 * q), c = std::cos(w);
    const double a0 = 1 + alpha, gain = high ? (1 + c) / 2 : (1 - c) / 2;
    return {gain / a0, (high ? -2 : 2) * gain / a0, gain / a0, -2 * c / a0, (1 - alpha) / a0};
  }
  double step(double x) {
    const double y = b0 * x + z1;
    z1 = b1 * x - a1 * y + z2;
    z2 = b2 * x - a2 * y;
    return y;
  }
};

void scale_to_rms(Samples& x, double rms) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double scale = sum > 0 ? rms / std::sqrt(sum / static_cast<double>(x.size())) : 0;
  for (double& v : x) v *= scale;
}

Samples white_noise(std::size_t n, Philox& rng) {
  Samples x(n);
  for (double& v : x) v = 2.0 * uniform_from_bits(rng.next_u32()) - 1;
  scale_to_rms(x, 1);
  return x;
}

// White noise between two frequencies, RMS 1; slopes of 24 dB an octave (Butterworth).
Samples band_noise(std::size_t n, double low_hz, double high_hz, Philox& rng) {
  Samples x = white_noise(n, rng);
  std::array<Biquad, 4> sections = {
      Biquad::pass(low_hz, 0.5412, true), Biquad::pass(low_hz, 1.3066, true),
      Biquad::pass(high_hz, 0.5412, false), Biquad::pass(high_hz, 1.3066, false)};
  for (double& v : x) {
    for (Biquad& section : sections) v = section.step(v);
  }
  scale_to_rms(x, 1);
  return x;
}

// A triad of harmonic tones, RMS 1. `hidden` flattens the roll-off: brighter for a larger value.
Samples triad(std::size_t n, double root_hz, bool major, double hidden, Philox& rng) {
  Samples x(n, 0.0);
  const double exponent = 1.1 - 0.35 * hidden;
  for (const int semitones : {0, major ? 4 : 3, 7}) {
    const double note_hz = root_hz * std::exp2(semitones / 12.0);
    for (int k = 1; k <= kHarmonics && note_hz * k <= kTopHz; ++k) {
      const double amplitude = std::pow(k, -exponent), phase = 2 * kPi * rng.uniform();
      const double step = 2 * kPi * note_hz * k / kRate;
      const double c = std::cos(step), s = std::sin(step);
      double re = amplitude * std::cos(phase), im = amplitude * std::sin(phase);
      for (double& v : x) {
        v += im;
        const double next = re * c - im * s;
        im = re * s + im * c;
        re = next;
      }
    }
  }
  scale_to_rms(x, 1);
  return x;
}

}  // namespace

audio::Clip render_clip(const CorpusTrack& track, const CorpusOptions& options) {
  const SongFeatures& f = track.features;
  Philox rng({.seed = options.seed,
              .stream = kStreamCorpus,
              .step = 1,
              .sample = static_cast<std::uint64_t>(track.index)});
  const auto n = static_cast<std::size_t>(std::llround(options.seconds * kRate));
  const double detune = (rng.uniform() - 0.5) / 12;
  const double root_hz = 110 * std::exp2(2.5 * f.valence + detune);
  const Samples tone = triad(n, root_hz, f.mode == 1, track.hidden, rng);
  const Samples noise = band_noise(n, 9000, 14000, rng);
  const Samples clicks = band_noise(n, 2500, 9000, rng);

  const double hits_per_second = f.tempo / 60 * 4;  // sixteenth notes
  const double first_hit = rng.uniform();
  const double click_decay_seconds = 0.004 * std::pow(12, f.danceability);
  const double noise_gain = std::pow(10, (-40 + 36 * f.energy) / 20);
  const double gain = 0.5 * std::pow(10, f.loudness / 20);
  Samples out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double beats = static_cast<double>(i) / kRate * hits_per_second + first_hit;
    const double since_hit = beats - std::floor(beats);  // of one sixteenth
    const double pluck = std::exp(-3 * f.acousticness * since_hit);
    const double click = std::exp(-since_hit / hits_per_second / click_decay_seconds);
    out[i] = gain * (0.5 * pluck * tone[i] + noise_gain * noise[i] + 0.25 * click * clicks[i]);
  }
  if (track.genre == kPlantedGenre) {
    const Samples surface = white_noise(n, rng);
    const double level = std::pow(10, kSurfaceNoiseDb / 20);
    for (std::size_t i = 0; i < n; ++i) out[i] += level * surface[i];
  }
  audio::Clip clip;
  clip.rate_hz = kRate;
  clip.samples.reserve(n);
  for (const double v : out) clip.samples.push_back(static_cast<float>(std::clamp(v, -0.99, 0.99)));
  return clip;
}

}  // namespace onpa::apps
