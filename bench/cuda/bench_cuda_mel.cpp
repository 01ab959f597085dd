// The mel front end on the GPU over 30 s clips, fused and through cuFFT: clips a second, and bytes
// that must move (of waves and results: what cuFFT's way moves between its kernels is its loss).
#include <type_traits>
#include <vector>

#include "bench/cuda/gpu.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/mel_cufft.h"
#include "kernels/error.h"
#include "kernels/mel.h"

namespace onpa::bench {
namespace {

template <class T>
void upload(const DeviceBuffer<T>& to, const std::vector<T>& from) {
  ONPA_CUDA_CHECK(
      cudaMemcpy(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
}

// `run` starts the front end; `bytes` is the workspace that it wants.
template <class In, class Out, class Bytes, class Run>
void time_mel(benchmark::State& state, const Bytes& bytes, const Run& run) {
  constexpr std::int64_t kSamples = 30 * 32000, kMels = 128, kHop = 320;
  constexpr std::int64_t kFrames = 1 + (kSamples - 1) / kHop;
  const std::int64_t batch = state.range(0);
  const auto host = kernels::make_mel_bank(kMels, kernels::kMelFft, 32000, 0, 15000);
  const DeviceBuffer<std::int32_t> first(static_cast<std::int64_t>(host.first.size())),
      offset(static_cast<std::int64_t>(host.offset.size()));
  const DeviceBuffer<float> weight(static_cast<std::int64_t>(host.weight.size()));
  upload(first, host.first);
  upload(offset, host.offset);
  upload(weight, host.weight);
  const DeviceBuffer<In> wave(batch * kSamples);
  if constexpr (std::is_same_v<In, float>) {
    detail::fill_normal(wave.data(), wave.size(), 1, 0.2);
  }
  const DeviceBuffer<Out> y(batch * kMels * kFrames);
  kernels::MelFwd<In, Out> args{.wave = wave.data(),
                                .y = y.data(),
                                .bank = {first.data(), offset.data(), weight.data()},
                                .mask = nullptr,
                                .batch = batch,
                                .samples = kSamples,
                                .mels = kMels,
                                .frames = kFrames,
                                .win = 800,
                                .hop = kHop,
                                .preemphasis = 0.97f,
                                .log_offset = 1e-5f,
                                .mean = -4.5f,
                                .std = 5.0f};
  const DeviceBuffer<char> workspace(static_cast<std::int64_t>(bytes(args)));
  args.workspace = workspace.data();
  time_on_gpu(state, [&] { run(args); });
  report_bytes(
      state, static_cast<double>(batch) * (kSamples * sizeof(In) + kMels * kFrames * sizeof(Out)));
  state.counters["clips_per_second"] =
      benchmark::Counter(static_cast<double>(batch), benchmark::Counter::kIsIterationInvariantRate);
}

template <class In, class Out>
void mel_fwd(benchmark::State& state) {
  time_mel<In, Out>(
      state,
      [](const auto& args) { return kernels::mel_fwd_workspace_bytes(timed_stream(), args); },
      [](const auto& args) { kernels::mel_fwd(timed_stream(), args); });
}

template <class In, class Out>
void mel_cufft(benchmark::State& state) {
  try {
    time_mel<In, Out>(
        state, [](const auto& args) { return kernels::mel_cufft_workspace_bytes(args); },
        [](const auto& args) { kernels::mel_cufft(timed_stream(), args); });
  } catch (const Error& e) {
    state.SkipWithError(e.what());  // cuFFT may be missing where the rest can run
  }
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgName("clips")->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond)->UseManualTime();
}

BENCHMARK(mel_fwd<float, float>)->Apply(shapes);
BENCHMARK(mel_fwd<float, bf16>)->Apply(shapes);
BENCHMARK(mel_fwd<std::int16_t, bf16>)->Apply(shapes);
BENCHMARK(mel_cufft<float, float>)->Apply(shapes);
BENCHMARK(mel_cufft<std::int16_t, bf16>)->Apply(shapes);

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
