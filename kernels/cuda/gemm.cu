// Matrix products: cuBLASLt's, and after it, for exact GELU and everything that needs the
// activation's argument as well, one pass of our own.
#include "kernels/gemm.h"

#include <map>
#include <mutex>
#include <sstream>
#include <tuple>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/timing.h"
#include "kernels/gemm_tuning.h"

namespace onpa::gpu {

const Blas& blas() {
  static const Blas instance = [] {
    Blas made;
    made.workspace_bytes = std::size_t{32} << 20;  // what NVIDIA advises for Hopper
    ONPA_BLAS_CHECK(cublasLtCreate(&made.handle));
    ONPA_CUDA_CHECK(cudaMalloc(&made.workspace, made.workspace_bytes));
    return made;
  }();
  return instance;
}

}  // namespace onpa::gpu

namespace onpa::kernels {
namespace {

template <class T>
gpu::ProductShape shape_of(const Gemm<T>& g, bool has_bias) {
  return {.is_bf16 = sizeof(T) == 2,
          .trans_a = g.trans_a == Trans::kYes,
          .trans_b = g.trans_b == Trans::kYes,
          .has_bias = has_bias,
          .m = g.m,
          .n = g.n,
          .k = g.k,
          .lda = g.lda,
          .ldb = g.ldb,
          .ldc = g.ldc};
}

template <class T>
void multiply(Cuda dev, const Gemm<T>& g, const T* bias, float beta, const T* add, T* out) {
  gpu::multiply(gpu::stream_of(dev), {.shape = shape_of(g, bias != nullptr),
                                      .a = g.a,
                                      .b = g.b,
                                      .beta = beta,
                                      .add = add,
                                      .bias = bias,
                                      .out = out});
}

// c = act(sum + bias) + residual over rows of stride ld; null terms are left out. With
// `pre_activation` set, the argument of act is written there.
template <class T>
struct Finish {
  const T *sum, *bias, *residual;
  T *pre_activation, *c;
  std::int64_t rows, cols, ld;
  std::int64_t pieces_per_row;  // of kVec<T> columns
  Activation activation;
  bool aligned;
};

constexpr int kFinishThreads = 256;

template <class T>
__global__ void __launch_bounds__(kFinishThreads) finish_kernel(Finish<T> f) {
  constexpr int kV = gpu::kVec<T>;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (piece >= f.rows * f.pieces_per_row) return;
  const std::int64_t row = piece / f.pieces_per_row;
  const std::int64_t column = (piece - row * f.pieces_per_row) * kV;
  const std::int64_t at = row * f.ld + column, count = f.cols - column;
  const bool whole = f.aligned && count >= kV;
  float v[kV] = {}, term[kV];
  if (f.sum != nullptr) gpu::load_piece(f.sum + at, whole, count, v);
  if (f.bias != nullptr) {
    gpu::load_piece(f.bias + column, whole, count, term);
#pragma unroll
    for (int j = 0; j < kV; ++j) v[j] += term[j];
  }
  if (f.pre_activation != nullptr) gpu::store_piece(f.pre_activation + at, whole, count, v);
#pragma unroll
  for (int j = 0; j < kV; ++j) {
    if (f.activation == Activation::kRelu) v[j] = v[j] < 0 ? 0.0f : v[j];
    if (f.activation == Activation::kGelu) v[j] *= gpu::normal_cdf(v[j]);
  }
  if (f.residual != nullptr) {
    gpu::load_piece(f.residual + at, whole, count, term);
#pragma unroll
    for (int j = 0; j < kV; ++j) v[j] += term[j];
  }
  gpu::store_piece(f.c + at, whole, count, v);
}

template <class T>
void finish(Cuda dev, const Gemm<T>& g, const T* sum, const T* bias, const T* residual,
            T* pre_activation) {
  const std::int64_t pieces = (g.n + gpu::kVec<T> - 1) / gpu::kVec<T>;
  const bool aligned =
      gpu::aligned16(sum, bias, residual, pre_activation, g.c) && g.ldc % gpu::kVec<T> == 0;
  const Finish<T> f = {.sum = sum,
                       .bias = bias,
                       .residual = residual,
                       .pre_activation = pre_activation,
                       .c = g.c,
                       .rows = g.m,
                       .cols = g.n,
                       .ld = g.ldc,
                       .pieces_per_row = pieces,
                       .activation = g.activation,
                       .aligned = aligned};
  gpu::launch(finish_kernel<T>, gpu::blocks_for(g.m * pieces, kFinishThreads), kFinishThreads, 0,
              gpu::stream_of(dev), f);
}

// The product and the pass after it, which `pass_adds_bias` or not.
template <class T>
void multiply_and_finish(Cuda dev, const Gemm<T>& g, bool pass_adds_bias) {
  T* sum = g.pre_activation != nullptr ? g.pre_activation : g.c;
  multiply<T>(dev, g, pass_adds_bias ? nullptr : g.bias, g.beta, g.beta != 0 ? g.c : sum, sum);
  if (pass_adds_bias) {
    finish<T>(dev, g, sum, g.bias, g.residual, g.pre_activation);
  } else {
    finish<T>(dev, g, sum, nullptr, g.residual, nullptr);
  }
}

// Whether adding the bias in the pass is the faster way: with the product's it costs its algorithm,
// in the pass nothing, or writing pre_activation once more. Timed at a shape's first use if that is
// asked for; else, or where the timing would read its own result (beta), no.
template <class T>
bool pass_adds_bias(Cuda dev, const Gemm<T>& g) {
  if (!gemm_tuning() || g.bias == nullptr || g.beta != 0) return false;
  using Key = std::tuple<gpu::ProductShape, Activation, bool, bool>;
  static std::mutex mutex;
  static auto* choices = new std::map<Key, bool>;
  const std::lock_guard lock(mutex);
  const gpu::ProductShape shape = shape_of(g, true);
  const Key key(shape, g.activation, g.pre_activation != nullptr, g.residual != nullptr);
  if (const auto found = choices->find(key); found != choices->end()) return found->second;
  const cudaStream_t stream = gpu::stream_of(dev);
  if (!gpu::can_time(stream)) return false;
  std::vector<float> ms;
  for (const bool in_pass : {false, true}) {
    ms.push_back(gpu::time_ms(stream, [&] { multiply_and_finish(dev, g, in_pass); }));
  }
  const bool in_pass = gpu::fastest(ms) == 1;
  std::ostringstream line;
  line << gpu::describe(shape) << " and a pass: bias in the " << (in_pass ? "pass" : "product")
       << "; product " << ms[0] << " ms, pass " << ms[1] << " ms";
  record_gemm_choice(line.str());
  return choices->emplace(key, in_pass).first->second;
}

}  // namespace

template <class T>
void gemm(Cuda dev, const Gemm<T>& g) {
  if (g.m == 0 || g.n == 0) return;
  const bool plain = g.activation == Activation::kNone && g.pre_activation == nullptr;
  ONPA_CHECK(g.residual != g.c || g.residual == nullptr || (plain && g.beta == 0),
             "gemm: a residual in place wants no activation, no pre_activation and beta 0");
  if (g.k == 0) {
    finish<T>(dev, g, g.beta != 0 ? g.c : nullptr, g.bias, g.residual, g.pre_activation);
    return;
  }
  if (plain && (g.residual == nullptr || g.beta == 0)) {
    // The residual takes the place of the matrix that cuBLASLt adds.
    const T* add = g.residual != nullptr ? g.residual : g.c;
    multiply<T>(dev, g, g.bias, g.residual != nullptr ? 1.0f : g.beta, add, g.c);
    return;
  }
  multiply_and_finish(dev, g, pass_adds_bias(dev, g));
}

template void gemm<float>(Cuda, const Gemm<float>&);
template void gemm<bf16>(Cuda, const Gemm<bf16>&);

}  // namespace onpa::kernels
