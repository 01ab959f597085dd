// The matrix products of a passt-s training step on the GPU (batch 8, N = 2,155), bf16.
#include "bench/cuda/gpu.h"
#include "kernels/gemm.h"

namespace onpa::bench {
namespace {

struct Shape {
  std::int64_t m, n, k;
  kernels::Trans trans_a = kernels::Trans::kNo, trans_b = kernels::Trans::kNo;
  bool bias = false;
  kernels::Activation activation = kernels::Activation::kNone;
};

void gemm(benchmark::State& state, const Shape& shape) {
  const auto [m, n, k, trans_a, trans_b, with_bias, activation] = shape;
  const DeviceBuffer<bf16> a(m * k, 1), b(k * n, 2), c(m * n), bias(n, 3), before(m * n);
  const bool gelu = activation != kernels::Activation::kNone;
  time_on_gpu(state, [&, m = m, n = n, k = k, trans_a = trans_a, trans_b = trans_b,
                      with_bias = with_bias, activation = activation] {
    kernels::gemm<bf16>(timed_stream(), {.trans_a = trans_a,
                                         .trans_b = trans_b,
                                         .m = m,
                                         .n = n,
                                         .k = k,
                                         .a = a.data(),
                                         .lda = trans_a == kernels::Trans::kYes ? m : k,
                                         .b = b.data(),
                                         .ldb = trans_b == kernels::Trans::kYes ? k : n,
                                         .c = c.data(),
                                         .ldc = n,
                                         .bias = with_bias ? bias.data() : nullptr,
                                         .activation = activation,
                                         .pre_activation = gelu ? before.data() : nullptr});
  });
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
}

constexpr std::int64_t kRows = 8 * 2155, kWidth = 768, kHidden = 3072;
constexpr auto kYes = kernels::Trans::kYes;

// A weight is stored (outputs, inputs), so forward products transpose it.
BENCHMARK_CAPTURE(gemm, qkv, Shape{kRows, 3 * kWidth, kWidth, {}, kYes, true})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK_CAPTURE(gemm, fc1_gelu,
                  Shape{kRows, kHidden, kWidth, {}, kYes, true, kernels::Activation::kGelu})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK_CAPTURE(gemm, fc2, Shape{kRows, kWidth, kHidden, {}, kYes, true})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK_CAPTURE(gemm, fc1_input_grad, Shape{kRows, kWidth, kHidden})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK_CAPTURE(gemm, fc1_weight_grad, Shape{kHidden, kWidth, kRows, kYes})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
