// Residual add and layer norm on the GPU, both directions, at the widths of passt-s: bytes that
// must move (each input read once, each output written once).
#include "bench/cuda/gpu.h"
#include "kernels/norm.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kCols = 768;

template <class T>
struct Problem {
  std::int64_t rows;
  DeviceBuffer<T> x, residual, weight, bias, s, y, dy, ds, dx, dweight, dbias;
  DeviceBuffer<float> mean, rstd;
  explicit Problem(std::int64_t row_count)
      : rows(row_count),
        x(rows * kCols, 1),
        residual(rows * kCols, 2),
        weight(kCols, 3),
        bias(kCols, 4),
        s(rows * kCols),
        y(rows * kCols),
        dy(rows * kCols, 5),
        ds(rows * kCols, 6),
        dx(rows * kCols),
        dweight(kCols),
        dbias(kCols),
        mean(rows),
        rstd(rows) {}
  void forward() const {
    kernels::add_layer_norm_fwd<T>(timed_stream(), {.x = x.data(),
                                                    .residual = residual.data(),
                                                    .weight = weight.data(),
                                                    .bias = bias.data(),
                                                    .s = s.data(),
                                                    .y = y.data(),
                                                    .mean = mean.data(),
                                                    .rstd = rstd.data(),
                                                    .rows = rows,
                                                    .cols = kCols,
                                                    .eps = 1e-6f});
  }
  kernels::AddLayerNormBwd<T> backward() const {
    return {.dy = dy.data(),
            .ds = ds.data(),
            .s = s.data(),
            .weight = weight.data(),
            .mean = mean.data(),
            .rstd = rstd.data(),
            .dx = dx.data(),
            .dweight = dweight.data(),
            .dbias = dbias.data(),
            .dweight_mode = kernels::GradMode::kAssign,
            .dbias_mode = kernels::GradMode::kAssign,
            .rows = rows,
            .cols = kCols};
  }
  double bytes(double arrays) const {
    return arrays * static_cast<double>(rows * kCols) * static_cast<double>(sizeof(T));
  }
};

template <class T>
void add_layer_norm_fwd(benchmark::State& state) {
  const Problem<T> p(state.range(0));
  time_on_gpu(state, [&] { p.forward(); });
  report_bytes(state, p.bytes(4));
}

template <class T>
void add_layer_norm_bwd(benchmark::State& state) {
  const Problem<T> p(state.range(0));
  p.forward();
  auto args = p.backward();
  const DeviceBuffer<char> workspace(
      static_cast<std::int64_t>(kernels::add_layer_norm_bwd_workspace_bytes(timed_stream(), args)));
  args.workspace = workspace.data();
  time_on_gpu(state, [&] { kernels::add_layer_norm_bwd(timed_stream(), args); });
  report_bytes(state, p.bytes(4));
}

// Batches of 8 and 48 clips at N = 2,155.
void shapes(benchmark::internal::Benchmark* b) {
  b->ArgName("rows")->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (const int clips : {8, 48}) b->Arg(clips * 2155);
}

BENCHMARK(add_layer_norm_fwd<bf16>)->Apply(shapes);
BENCHMARK(add_layer_norm_fwd<float>)->Apply(shapes);
BENCHMARK(add_layer_norm_bwd<bf16>)->Apply(shapes);
BENCHMARK(add_layer_norm_bwd<float>)->Apply(shapes);

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
