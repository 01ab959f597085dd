// Layer norm forward and backward: bytes that must move (each input read once, each output written
// once) per second, and that as a share of the measured copy bandwidth. Rows that fit the last
// level of cache can exceed it.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/roofline.h"
#include "kernels/norm.h"

namespace onpa::bench {
namespace {

struct Problem {
  std::int64_t rows, cols;
  std::vector<float> x, weight, bias, y, mean, rstd, dy, dx, dweight, dbias;
  explicit Problem(const benchmark::State& state)
      : rows(state.range(0)),
        cols(state.range(1)),
        x(normal_values(rows * cols, 1)),
        weight(normal_values(cols, 2)),
        bias(normal_values(cols, 3)),
        y(x.size()),
        mean(static_cast<std::size_t>(rows)),
        rstd(mean.size()),
        dy(normal_values(rows * cols, 4)),
        dx(x.size()),
        dweight(bias.size()),
        dbias(bias.size()) {}
  void forward() {
    kernels::layer_norm_fwd<float>(kernels::Cpu{}, {.x = x.data(),
                                                    .weight = weight.data(),
                                                    .bias = bias.data(),
                                                    .y = y.data(),
                                                    .mean = mean.data(),
                                                    .rstd = rstd.data(),
                                                    .rows = rows,
                                                    .cols = cols,
                                                    .eps = 1e-6f});
  }
  void backward() {
    kernels::layer_norm_bwd<float>(kernels::Cpu{}, {.dy = dy.data(),
                                                    .x = x.data(),
                                                    .weight = weight.data(),
                                                    .mean = mean.data(),
                                                    .rstd = rstd.data(),
                                                    .dx = dx.data(),
                                                    .dx_mode = kernels::GradMode::kAssign,
                                                    .dweight = dweight.data(),
                                                    .dbias = dbias.data(),
                                                    .dweight_mode = kernels::GradMode::kAssign,
                                                    .dbias_mode = kernels::GradMode::kAssign,
                                                    .rows = rows,
                                                    .cols = cols});
  }
  void report(benchmark::State& state, double arrays) const {
    report_bytes(state, arrays * 4 * static_cast<double>(rows * cols));
  }
};

void layer_norm_forward(benchmark::State& state) {
  Problem p(state);
  for (auto _ : state) p.forward();
  p.report(state, 2);
}

void layer_norm_backward(benchmark::State& state) {
  Problem p(state);
  p.forward();
  for (auto _ : state) p.backward();
  p.report(state, 3);
}

// One sample at 75 % patchout, one without, and a batch that no cache holds.
void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (const int rows : {899, 3590, 28720}) b->Args({rows, 768});
  b->Args({899, 64});
}

BENCHMARK(layer_norm_forward)->Apply(shapes);
BENCHMARK(layer_norm_backward)->Apply(shapes);

}  // namespace
}  // namespace onpa::bench

BENCHMARK_MAIN();
