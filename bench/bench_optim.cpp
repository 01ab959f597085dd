// Optimizer steps over a model's flat buffers: bytes that must move per second, and that as a share
// of the measured copy bandwidth. The buffers are far larger than any cache. An update in place can
// pass a copy: the stores of a copy also read the lines that they overwrite, which is not counted.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/roofline.h"
#include "kernels/cpu/parallel.h"
#include "kernels/optim.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kPasstParameters = 86'000'000;

// Values at which nothing is denormal and nothing grows over many steps.
std::vector<float> filled(std::int64_t n, float value) {
  std::vector<float> out(static_cast<std::size_t>(n));
  kernels::parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      out[static_cast<std::size_t>(i)] = value * static_cast<float>(1 + i % 7);
    }
  });
  return out;
}

// `arrays`: floats read plus floats written for each parameter.
void report(benchmark::State& state, double arrays) {
  report_bytes(state, arrays * 4 * static_cast<double>(state.range(0)));
}

void adamw(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  std::vector<float> param = filled(n, 0.01f), grad = filled(n, 1e-3f);
  std::vector<float> m = filled(n, 1e-3f), v = filled(n, 1e-6f);
  std::int64_t step = 0;
  for (auto _ : state) {
    kernels::adamw(kernels::Cpu{}, {.param = param.data(),
                                    .grad = grad.data(),
                                    .m = m.data(),
                                    .v = v.data(),
                                    .n = n,
                                    .beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .lr = 1e-5f,
                                    .eps = 1e-8f,
                                    .weight_decay = 1e-4f,
                                    .grad_scale = 1,
                                    .step = ++step});
  }
  report(state, 4 + 3);
}

void sgd_nesterov(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  std::vector<float> param = filled(n, 0.01f), grad = filled(n, 1e-3f), buffer = filled(n, 1e-3f);
  for (auto _ : state) {
    kernels::sgd(kernels::Cpu{}, {.param = param.data(),
                                  .grad = grad.data(),
                                  .momentum_buffer = buffer.data(),
                                  .n = n,
                                  .lr = 1e-5f,
                                  .momentum = 0.9f,
                                  .weight_decay = 1e-4f,
                                  .grad_scale = 1,
                                  .nesterov = true});
  }
  report(state, 3 + 2);
}

void gradient_norm(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  const std::vector<float> grad = filled(n, 1e-3f);
  for (auto _ : state) {
    double sum = 0;
    kernels::sum_of_squares(kernels::Cpu{}, {.x = grad.data(), .out = &sum, .n = n});
    benchmark::DoNotOptimize(sum);
  }
  report(state, 1);
}

void average(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  std::vector<float> average = filled(n, 0.01f);
  const std::vector<float> param = filled(n, 0.02f);
  for (auto _ : state) {
    kernels::average_weights(
        kernels::Cpu{}, {.average = average.data(), .param = param.data(), .weight = 0.1f, .n = n});
  }
  report(state, 2 + 1);
}

BENCHMARK(adamw)->Arg(kPasstParameters)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(sgd_nesterov)->Arg(kPasstParameters)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(gradient_norm)->Arg(kPasstParameters)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(average)->Arg(kPasstParameters)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace onpa::bench

BENCHMARK_MAIN();
