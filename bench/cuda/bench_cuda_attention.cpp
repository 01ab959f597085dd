// Attention on the GPU, forward and backward, heads of 64. FLOPs are 4 N^2 D H forward and 2.5
// times that backward, by convention, whatever is recomputed.
#include "bench/cuda/gpu.h"
#include "kernels/attention.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kHeads = 12, kHeadDim = 64;

template <class T>
struct Problem {
  std::int64_t batch, tokens, width = kHeads * kHeadDim;
  DeviceBuffer<T> qkv, y, dy, dqkv;
  DeviceBuffer<float> lse, workspace;
  explicit Problem(const benchmark::State& state)
      : batch(state.range(0)),
        tokens(state.range(1)),
        qkv(batch * tokens * 3 * width, 1),
        y(batch * tokens * width),
        dy(batch * tokens * width, 2),
        dqkv(batch * tokens * 3 * width),
        lse(batch * kHeads * tokens),
        workspace(static_cast<std::int64_t>(
            kernels::attention_bwd_workspace_bytes(kernels::Cuda{}, batch, kHeads, tokens) /
            sizeof(float))) {}
  void forward() const {
    kernels::attention_fwd<T>(timed_stream(), {.qkv = qkv.data(),
                                               .y = y.data(),
                                               .lse = lse.data(),
                                               .batch = batch,
                                               .tokens = tokens,
                                               .heads = kHeads,
                                               .head_dim = kHeadDim,
                                               .queries = tokens,
                                               .scale = 0.125f});
  }
  void backward() const {
    kernels::attention_bwd<T>(timed_stream(), {.dy = dy.data(),
                                               .qkv = qkv.data(),
                                               .y = y.data(),
                                               .lse = lse.data(),
                                               .dqkv = dqkv.data(),
                                               .batch = batch,
                                               .tokens = tokens,
                                               .heads = kHeads,
                                               .head_dim = kHeadDim,
                                               .queries = tokens,
                                               .scale = 0.125f,
                                               .workspace = workspace.data()});
  }
  double flops(double products) const {
    return products * 2.0 * static_cast<double>(batch * tokens * tokens * width);
  }
};

template <class T>
void attention_fwd(benchmark::State& state) {
  const Problem<T> p(state);
  time_on_gpu(state, [&] { p.forward(); });
  report_flops(state, p.flops(2));
}

template <class T>
void attention_bwd(benchmark::State& state) {
  const Problem<T> p(state);
  p.forward();
  time_on_gpu(state, [&] { p.backward(); });
  report_flops(state, p.flops(5));
}

template <class T>
void attention_fwd_bwd(benchmark::State& state) {
  const Problem<T> p(state);
  time_on_gpu(state, [&] {
    p.forward();
    p.backward();
  });
  report_flops(state, p.flops(7));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"batch", "tokens"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (const int tokens : {899, 2155, 3584, 3590}) b->Args({8, tokens});
}
void plain_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"batch", "tokens"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  b->Args({8, 899});
}

BENCHMARK(attention_fwd<bf16>)->Apply(shapes);
BENCHMARK(attention_bwd<bf16>)->Apply(shapes);
BENCHMARK(attention_fwd_bwd<bf16>)->Apply(shapes);
BENCHMARK(attention_fwd<float>)->Apply(plain_shapes);
BENCHMARK(attention_bwd<float>)->Apply(plain_shapes);

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
