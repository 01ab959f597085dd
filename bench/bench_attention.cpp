// Attention forward and backward: GFLOP/s and the share of the measured FMA peak. FLOPs are
// 4 N^2 D H forward and 2.5 times that backward, by convention, whatever is recomputed.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/roofline.h"
#include "kernels/attention.h"
#include "kernels/cpu/parallel.h"

namespace onpa::bench {
namespace {

struct Problem {
  std::int64_t tokens, heads, dim;
  std::vector<float> qkv, y, lse, dy, dqkv;
  explicit Problem(const benchmark::State& state)
      : tokens(state.range(0)),
        heads(state.range(1)),
        dim(state.range(2)),
        qkv(normal_values(tokens * 3 * heads * dim, 1)),
        y(static_cast<std::size_t>(tokens * heads * dim)),
        lse(static_cast<std::size_t>(tokens * heads)),
        dy(normal_values(tokens * heads * dim, 2)),
        dqkv(qkv.size()) {}
  void forward() {
    kernels::attention_fwd<float>(kernels::Cpu{}, {.qkv = qkv.data(),
                                                   .y = y.data(),
                                                   .lse = lse.data(),
                                                   .batch = 1,
                                                   .tokens = tokens,
                                                   .heads = heads,
                                                   .head_dim = dim,
                                                   .queries = tokens,
                                                   .scale = 0.125f});
  }
  void backward() {
    kernels::attention_bwd<float>(kernels::Cpu{}, {.dy = dy.data(),
                                                   .qkv = qkv.data(),
                                                   .y = y.data(),
                                                   .lse = lse.data(),
                                                   .dqkv = dqkv.data(),
                                                   .batch = 1,
                                                   .tokens = tokens,
                                                   .heads = heads,
                                                   .head_dim = dim,
                                                   .queries = tokens,
                                                   .scale = 0.125f});
  }
  void report(benchmark::State& state, double products) const {
    report_flops(state, products * 2.0 * static_cast<double>(tokens * tokens * heads * dim),
                 static_cast<int>(state.range(3)));
  }
};

void attention_forward(benchmark::State& state) {
  kernels::set_thread_count(static_cast<int>(state.range(3)));
  Problem p(state);
  for (auto _ : state) p.forward();
  p.report(state, 2);
}

void attention_backward(benchmark::State& state) {
  kernels::set_thread_count(static_cast<int>(state.range(3)));
  Problem p(state);
  p.forward();
  for (auto _ : state) p.backward();
  p.report(state, 5);
}

// PaSST-S at 75 %, 40 % and no patchout of 30 s, its 10 s form, and a head width of 16.
void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "heads", "dim", "threads"})->Unit(benchmark::kMillisecond);
  for (const int threads : {1, kernels::thread_count()}) {
    for (const int tokens : {474, 899, 2155, 3590}) b->Args({tokens, 12, 64, threads});
    b->Args({899, 4, 16, threads});
    if (kernels::thread_count() == 1) break;
  }
  b->UseRealTime();
}

BENCHMARK(attention_forward)->Apply(shapes);
BENCHMARK(attention_backward)->Apply(shapes);

}  // namespace
}  // namespace onpa::bench

BENCHMARK_MAIN();
