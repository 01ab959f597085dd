// Decoding an mp3 to mono at the model's rate, its parts, and encoding: audio seconds per second of
// one thread. The limit is what the mp3 bit stream costs by itself; an independent decoder,
// libmpg123 without resampling, measured on the same bytes in the same run, stands for it.
#include <benchmark/benchmark.h>
#include <mpg123.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <span>

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

// Samples that libmpg123 makes of a whole file, as mono float.
std::size_t decode_by_mpg123(std::span<const std::byte> file) {
  static const int initialised = mpg123_init();
  mpg123_handle* handle = initialised == MPG123_OK ? mpg123_new(nullptr, nullptr) : nullptr;
  mpg123_param(handle, MPG123_ADD_FLAGS, MPG123_FORCE_FLOAT | MPG123_MONO_MIX | MPG123_QUIET, 0);
  mpg123_open_feed(handle);
  mpg123_feed(handle, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  std::vector<unsigned char> out(1 << 16);
  std::size_t bytes = 0, done = 0;
  for (int code = MPG123_OK; code == MPG123_OK || code == MPG123_NEW_FORMAT;) {
    code = mpg123_read(handle, out.data(), out.size(), &done);
    bytes += done;
  }
  mpg123_delete(handle);
  return bytes / sizeof(float);
}

// Best of a few runs, once per bit rate.
double mpg123_seconds(int kbps, std::span<const std::byte> file) {
  static std::map<int, double> measured;
  double& best = measured[kbps];
  for (int run = 0; best == 0 || run < 10; ++run) {
    const auto start = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(decode_by_mpg123(file));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = best == 0 ? took.count() : std::min(best, took.count());
  }
  return best;
}

void decode_to(benchmark::State& state, int rate_hz) {
  const int kbps = static_cast<int>(state.range(0));
  const auto file = audio::encode_mp3(dense_clip(), kbps);
  for (auto _ : state) {
    benchmark::DoNotOptimize(audio::decode(file, "clip", {.rate_hz = rate_hz}).samples.data());
  }
  report(state);
  state.counters["share_of_mpg123"] =
      benchmark::Counter(mpg123_seconds(kbps, file) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
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
