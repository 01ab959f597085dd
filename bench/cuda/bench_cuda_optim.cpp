// AdamW and the gradient norm on the GPU over the 86 M parameters of passt-s: bytes that must move.
#include "bench/cuda/gpu.h"
#include "kernels/optim.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kParameters = 86'000'000;

// bf16 gradients in and bf16 weights out, float master weights and moments: 28 bytes a parameter.
void adamw(benchmark::State& state) {
  const std::int64_t n = kParameters;
  const DeviceBuffer<float> param(n, 1, 0.02), m(n), v(n);
  const DeviceBuffer<bf16> grad(n, 2, 1e-3), param_bf16(n);
  std::int64_t step = 0;
  time_on_gpu(state, [&] {
    kernels::adamw(timed_stream(), {.param = param.data(),
                                    .grad = nullptr,
                                    .m = m.data(),
                                    .v = v.data(),
                                    .n = n,
                                    .beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .lr = 1e-5f,
                                    .eps = 1e-8f,
                                    .weight_decay = 1e-4f,
                                    .grad_scale = 1,
                                    .step = ++step,
                                    .grad_bf16 = grad.data(),
                                    .param_bf16 = param_bf16.data()});
  });
  report_bytes(state, static_cast<double>(n) * (6 * sizeof(float) + 2 * sizeof(bf16)));
}

void sum_of_squares(benchmark::State& state) {
  const DeviceBuffer<bf16> x(kParameters, 1);
  const DeviceBuffer<double> out(1);
  kernels::SumOfSquares args{.x = nullptr, .out = out.data(), .n = kParameters, .x_bf16 = x.data()};
  const DeviceBuffer<char> workspace(
      static_cast<std::int64_t>(kernels::sum_of_squares_workspace_bytes(timed_stream(), args)));
  args.workspace = workspace.data();
  time_on_gpu(state, [&] { kernels::sum_of_squares(timed_stream(), args); });
  report_bytes(state, static_cast<double>(kParameters) * sizeof(bf16));
}

BENCHMARK(adamw)->Unit(benchmark::kMicrosecond)->UseManualTime();
BENCHMARK(sum_of_squares)->Unit(benchmark::kMicrosecond)->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
