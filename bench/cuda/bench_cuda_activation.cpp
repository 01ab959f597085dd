// Exact GELU on the GPU, both directions, and dropout: bytes that must move.
#include "bench/cuda/gpu.h"
#include "kernels/activation.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kHidden = 3072;  // of passt-s

template <class T>
double bytes(std::int64_t n, double arrays) {
  return arrays * static_cast<double>(n) * static_cast<double>(sizeof(T));
}

template <class T>
void activation_fwd(benchmark::State& state) {
  const std::int64_t n = state.range(0) * kHidden;
  const DeviceBuffer<T> x(n, 1), y(n);
  time_on_gpu(state, [&] {
    kernels::activation_fwd<T>(
        timed_stream(),
        {.x = x.data(), .y = y.data(), .n = n, .activation = kernels::Activation::kGelu});
  });
  report_bytes(state, bytes<T>(n, 2));
}

template <class T>
void activation_bwd(benchmark::State& state) {
  const std::int64_t n = state.range(0) * kHidden;
  const DeviceBuffer<T> x(n, 1), dy(n, 2), dx(n);
  time_on_gpu(state, [&] {
    kernels::activation_bwd<T>(timed_stream(), {.dy = dy.data(),
                                                .x = x.data(),
                                                .dx = dx.data(),
                                                .mode = kernels::GradMode::kAssign,
                                                .n = n,
                                                .activation = kernels::Activation::kGelu});
  });
  report_bytes(state, bytes<T>(n, 3));
}

template <class T>
void dropout(benchmark::State& state) {
  const std::int64_t rows = state.range(0), n = rows * kHidden;
  const DeviceBuffer<T> x(n, 1), y(n);
  time_on_gpu(state, [&] {
    kernels::dropout<T>(timed_stream(), {.x = x.data(),
                                         .y = y.data(),
                                         .mode = kernels::GradMode::kAssign,
                                         .rows = rows,
                                         .cols = kHidden,
                                         .p = 0.1f,
                                         .key = {.seed = 1}});
  });
  report_bytes(state, bytes<T>(n, 2));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgName("rows")->Unit(benchmark::kMicrosecond)->UseManualTime()->Arg(8 * 2155);
}

BENCHMARK(activation_fwd<bf16>)->Apply(shapes);
BENCHMARK(activation_fwd<float>)->Apply(shapes);
BENCHMARK(activation_bwd<bf16>)->Apply(shapes);
BENCHMARK(activation_bwd<float>)->Apply(shapes);
BENCHMARK(dropout<bf16>)->Apply(shapes);

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
