// The matrix products of a passt-s training step on the GPU (batch 8, N = 2,155), bf16: as cuBLASLt
// names them first, and the fastest of its candidates by timing. The label says which that was.
#include <string>

#include "bench/cuda/gpu.h"
#include "kernels/gemm.h"
#include "kernels/gemm_tuning.h"

namespace onpa::bench {
namespace {

struct Shape {
  std::int64_t m, n, k;
  kernels::Trans trans_a = kernels::Trans::kNo, trans_b = kernels::Trans::kNo;
  bool bias = false;
  kernels::Activation activation = kernels::Activation::kNone;
};

void time_gemm(benchmark::State& state, const Shape& shape) {
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

void gemm(benchmark::State& state, const Shape& shape) {
  time_gemm(state, shape);
}
// The lines about this shape; the benchmark library calls it often, and the first call chooses.
std::string choices_of(const Shape& shape) {
  const std::string sizes = "bf16 " + std::to_string(shape.m) + " x " + std::to_string(shape.n) +
                            " x " + std::to_string(shape.k);
  const bool turned = shape.trans_b == kernels::Trans::kYes;
  std::string out;
  for (const std::string& line : kernels::gemm_choices()) {
    if (line.starts_with(sizes) && turned == (line.find("b transposed") != std::string::npos)) {
      out += line + "; ";
    }
  }
  return out;
}
void gemm_timed(benchmark::State& state, const Shape& shape) {
  kernels::set_gemm_tuning(true);
  time_gemm(state, shape);
  kernels::set_gemm_tuning(false);
  state.SetLabel(choices_of(shape));
}

constexpr std::int64_t kRows = 8 * 2155, kWidth = 768, kHidden = 3072;
constexpr auto kYes = kernels::Trans::kYes;

// A weight is stored (outputs, inputs), so forward products transpose it.
#define BENCHMARK_BOTH(name, ...)                                                             \
  BENCHMARK_CAPTURE(gemm, name, __VA_ARGS__)->Unit(benchmark::kMicrosecond)->UseManualTime(); \
  BENCHMARK_CAPTURE(gemm_timed, name, __VA_ARGS__)->Unit(benchmark::kMicrosecond)->UseManualTime()

BENCHMARK_BOTH(qkv, Shape{kRows, 3 * kWidth, kWidth, {}, kYes, true});
BENCHMARK_BOTH(fc1_gelu, Shape{kRows, kHidden, kWidth, {}, kYes, true, kernels::Activation::kGelu});
BENCHMARK_BOTH(fc2, Shape{kRows, kWidth, kHidden, {}, kYes, true});
BENCHMARK_BOTH(fc1_input_grad, Shape{kRows, kWidth, kHidden});
BENCHMARK_BOTH(fc1_weight_grad, Shape{kHidden, kWidth, kRows, kYes});

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
