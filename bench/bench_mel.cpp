// The mel front end: audio seconds per second, clips per second and the share of the measured FMA
// peak. FLOPs are nominal: 2.5 N log2 N for the real FFT of N = 1024, then power, mel bands,
// window, pre-emphasis, and 20 for a log. The FFT is mostly additions, so about half of the FMA
// peak is the limit.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/roofline.h"
#include "kernels/cpu/parallel.h"
#include "kernels/mel.h"

namespace onpa::bench {
namespace {

constexpr int kRateHz = 32000;

void mel_forward(benchmark::State& state) {
  const std::int64_t seconds = state.range(0), batch = state.range(1);
  const auto threads = static_cast<int>(state.range(2));
  const std::int64_t samples = seconds * kRateHz, frames = 1 + (samples - 1) / 320;
  const std::vector<float> wave = normal_values(batch * samples, 1, 0.1);
  std::vector<float> y(static_cast<std::size_t>(batch * 128 * frames));
  const kernels::MelBank bank = kernels::make_mel_bank(128, 1024, kRateHz, 0, 15000);
  const int before = kernels::thread_count();
  kernels::set_thread_count(threads);
  for (auto _ : state) {
    kernels::mel_fwd(kernels::Cpu{}, {.wave = wave.data(),
                                      .y = y.data(),
                                      .bank = bank.view(),
                                      .mask = nullptr,
                                      .batch = batch,
                                      .samples = samples,
                                      .mels = 128,
                                      .frames = frames,
                                      .win = 800,
                                      .hop = 320,
                                      .preemphasis = 0.97f,
                                      .log_offset = 1e-5f,
                                      .mean = -4.5f,
                                      .std = 5.0f});
    benchmark::DoNotOptimize(y.data());
  }
  kernels::set_thread_count(before);
  constexpr double kFlopsPerFrame = 2.5 * 1024 * 10 + 3 * 513 + 2 * 947 + 3 * 800 + 20 * 128;
  const double clips = static_cast<double>(batch) * static_cast<double>(state.iterations());
  state.counters["clips/s"] = benchmark::Counter(clips, benchmark::Counter::kIsRate);
  state.counters["x_realtime"] =
      benchmark::Counter(clips * static_cast<double>(seconds), benchmark::Counter::kIsRate);
  report_flops(state, static_cast<double>(batch * frames) * kFlopsPerFrame, threads);
}
BENCHMARK(mel_forward)
    ->ArgNames({"seconds", "batch", "threads"})
    ->Args({10, 1, 1})
    ->Args({30, 1, 1})
    ->Args({10, 8, 1})
    ->Args({10, 8, 2})
    ->UseRealTime();

}  // namespace
}  // namespace onpa::bench

BENCHMARK_MAIN();
