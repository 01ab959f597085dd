// Decoding an mp3 to mono at the model's rate, its parts, and encoding: audio seconds per second of
// one thread. The limit of decode is FFmpeg's mp3 decoder alone, which `decode_own_rate` is but for
// the walk over the frames and the mix to mono.
#include <benchmark/benchmark.h>

#include <cmath>

#include "audio/decode.h"
#include "audio/encode.h"
#include "audio/resample.h"
#include "kernels/philox.h"

namespace onpa::bench {
namespace {

constexpr int kSeconds = 10, kRateHz = 44100;

// Noise of varying level over tones: no band is empty, as in dense music.
audio::Clip dense_clip() {
  audio::Clip clip{.samples = std::vector<float>(kSeconds * kRateHz), .rate_hz = kRateHz};
  Philox rng({.seed = 1, .stream = kStreamTest});
  for (std::size_t i = 0; i < clip.samples.size(); ++i) {
    const float t = static_cast<float>(i) / kRateHz;
    clip.samples[i] = 0.2f * std::sin(2764.6f * t) +
                      (0.1f + 0.08f * std::sin(9.0f * t)) * static_cast<float>(rng.normal());
  }
  return clip;
}

void report(benchmark::State& state) {
  state.counters["x_realtime"] = benchmark::Counter(
      kSeconds * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void decode_to(benchmark::State& state, int rate_hz) {
  const auto file = audio::encode_mp3(dense_clip(), static_cast<int>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(audio::decode(file, "clip", {.rate_hz = rate_hz}).samples.data());
  }
  report(state);
}
void decode_own_rate(benchmark::State& state) {
  decode_to(state, kRateHz);
}
void decode_model_rate(benchmark::State& state) {
  decode_to(state, audio::kModelRateHz);
}
BENCHMARK(decode_own_rate)->ArgName("kbps")->Arg(64)->Arg(128)->Arg(320);
BENCHMARK(decode_model_rate)->ArgName("kbps")->Arg(64)->Arg(128)->Arg(320);

void resample_to_model_rate(benchmark::State& state) {
  const audio::Clip clip = dense_clip();
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        audio::resample(clip.samples, clip.rate_hz, audio::kModelRateHz).data());
  }
  report(state);
}
BENCHMARK(resample_to_model_rate);

void encode(benchmark::State& state) {
  const audio::Clip clip = dense_clip();
  for (auto _ : state) benchmark::DoNotOptimize(audio::encode_mp3(clip, 128).data());
  report(state);
}
BENCHMARK(encode);

}  // namespace
}  // namespace onpa::bench

BENCHMARK_MAIN();
