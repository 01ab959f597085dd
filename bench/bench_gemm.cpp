// Matrix products of passt-s, passt-xs and the dense regressor, in the forms of a training step;
// beside them one call of oneDNN for the whole product on OpenMP's threads, without bias and
// activation.
#include <benchmark/benchmark.h>
#include <dnnl.h>
#include <omp.h>

#include <string>

#include "bench/roofline.h"
#include "kernels/cpu/parallel.h"
#include "kernels/gemm.h"
#include "kernels/philox.h"
#include "tensor/tensor.h"

namespace onpa {
namespace {

Tensor random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  Tensor out = Tensor::empty({rows, cols});
  for (float& v : out.span<float>()) v = static_cast<float>(rng.normal());
  return out;
}

struct Product {
  const char* name;
  kernels::Trans trans_a, trans_b;
  std::int64_t m, n, k;
  kernels::Activation activation = kernels::Activation::kNone;
};

void report(benchmark::State& state, const Product& p) {
  bench::report_flops(state, 2.0 * static_cast<double>(p.m * p.n * p.k), kernels::thread_count());
}

void run(benchmark::State& state, const Product& p) {
  using kernels::Trans;
  const Tensor a =
      p.trans_a == Trans::kNo ? random_matrix(p.m, p.k, 1) : random_matrix(p.k, p.m, 1);
  const Tensor b =
      p.trans_b == Trans::kNo ? random_matrix(p.k, p.n, 2) : random_matrix(p.n, p.k, 2);
  const Tensor c = Tensor::empty({p.m, p.n}), pre = Tensor::empty({p.m, p.n}),
               bias = random_matrix(1, p.n, 3);
  const bool fused = p.activation != kernels::Activation::kNone;
  const kernels::Gemm<float> product{.trans_a = p.trans_a,
                                     .trans_b = p.trans_b,
                                     .m = p.m,
                                     .n = p.n,
                                     .k = p.k,
                                     .a = a.data<float>(),
                                     .lda = a.size(1),
                                     .b = b.data<float>(),
                                     .ldb = b.size(1),
                                     .c = c.data<float>(),
                                     .ldc = p.n,
                                     .bias = fused ? bias.data<float>() : nullptr,
                                     .activation = p.activation,
                                     .pre_activation = fused ? pre.data<float>() : nullptr};
  // Once unmeasured: fresh pages, and oneDNN generates code on first use.
  kernels::gemm<float>(kernels::Cpu{}, product);
  for (auto _ : state) {
    kernels::gemm<float>(kernels::Cpu{}, product);
    benchmark::ClobberMemory();
  }
  report(state, p);
}

void run_onednn(benchmark::State& state, const Product& p) {
  const bool a_t = p.trans_a == kernels::Trans::kYes, b_t = p.trans_b == kernels::Trans::kYes;
  const Tensor a = a_t ? random_matrix(p.k, p.m, 1) : random_matrix(p.m, p.k, 1);
  const Tensor b = b_t ? random_matrix(p.n, p.k, 2) : random_matrix(p.k, p.n, 2);
  const Tensor c = Tensor::empty({p.m, p.n});
  omp_set_num_threads(kernels::thread_count());
  const auto multiply = [&] {
    dnnl_sgemm(a_t ? 'T' : 'N', b_t ? 'T' : 'N', p.m, p.n, p.k, 1.0f, a.data<float>(), a.size(1),
               b.data<float>(), b.size(1), 0.0f, c.data<float>(), p.n);
  };
  multiply();
  for (auto _ : state) {
    multiply();
    benchmark::ClobberMemory();
  }
  report(state, p);
}

constexpr auto kN = kernels::Trans::kNo, kT = kernels::Trans::kYes;
const Product kProducts[] = {
    {"qkv", kN, kT, 1434, 2304, 768},
    {"proj", kN, kT, 1434, 768, 768},
    {"fc1_gelu", kN, kT, 1434, 3072, 768, kernels::Activation::kGelu},
    {"fc2", kN, kT, 1434, 768, 3072},
    {"fc1_short", kN, kT, 474, 3072, 768},
    {"fc1_input_grad", kN, kN, 1434, 768, 3072},
    {"fc1_weight_grad", kT, kN, 3072, 768, 1434},
    {"fc2_weight_grad", kT, kN, 768, 3072, 1434},
    {"dense_hidden", kN, kT, 512, 256, 256, kernels::Activation::kRelu},
    {"dense_hidden_weight_grad", kT, kN, 256, 256, 512},
    {"dense_first", kN, kT, 512, 64, 10, kernels::Activation::kRelu},
    {"passt_xs_fc1", kN, kT, 32 * 56, 256, 64, kernels::Activation::kGelu},
};

}  // namespace
}  // namespace onpa

int main(int argc, char** argv) {
  for (const auto& p : onpa::kProducts) {
    benchmark::RegisterBenchmark((std::string("gemm/") + p.name).c_str(), onpa::run, p)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark((std::string("gemm_onednn/") + p.name).c_str(), onpa::run_onednn,
                                 p)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
