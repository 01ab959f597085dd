// The plainest kernel, y = a + b, against the copy bandwidth. Its run also tells which GPU there
// is.
#include "bench/cuda/gpu.h"
#include "kernels/elementwise.h"

namespace onpa::bench {
namespace {

template <class T>
void axpby(benchmark::State& state) {
  const std::int64_t n = std::int64_t{1} << 26;
  const DeviceBuffer<T> a(n, 1), b(n, 2), y(n);
  time_on_gpu(state, [&] {
    kernels::axpby<T>(timed_stream(),
                      {.a = a.data(), .b = b.data(), .y = y.data(), .alpha = 1, .beta = 1, .n = n});
  });
  report_bytes(state, 3.0 * static_cast<double>(n) * static_cast<double>(sizeof(T)));
}

BENCHMARK(axpby<bf16>)->Unit(benchmark::kMicrosecond)->UseManualTime();
BENCHMARK(axpby<float>)->Unit(benchmark::kMicrosecond)->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
