// Matrix products through cuBLASLt. What its epilogues do exactly (bias, a residual as C) is left
// to it; exact GELU, and everything that needs the activation's argument as well, is one pass of
// our own after it.
#include "kernels/gemm.h"

#include <map>
#include <mutex>
#include <tuple>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"

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

// What a product's plan depends on.
struct PlanKey {
  bool is_bf16, trans_a, trans_b, has_bias;
  std::int64_t m, n, k, lda, ldb, ldc;
  unsigned alignment;  // bytes, at most 16: the least of all operands

  auto tie() const {
    return std::tie(is_bf16, trans_a, trans_b, has_bias, m, n, k, lda, ldb, ldc, alignment);
  }
  friend bool operator<(const PlanKey& a, const PlanKey& b) { return a.tie() < b.tie(); }
};

// cuBLASLt counts columns first: our row-major c = a b is its c^T = b^T a^T, so b comes first.
class Plan {
 public:
  // The choice of an algorithm looks at the bias's address.
  Plan(const PlanKey& key, const void* bias) {
    const cudaDataType type = key.is_bf16 ? CUDA_R_16BF : CUDA_R_32F;
    ONPA_BLAS_CHECK(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, key.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, key.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE,
        key.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    first_ = layout(type, key.trans_b ? key.k : key.n, key.trans_b ? key.n : key.k, key.ldb);
    second_ = layout(type, key.trans_a ? key.m : key.k, key.trans_a ? key.k : key.m, key.lda);
    out_ = layout(type, key.n, key.m, key.ldc);
    choose(key);
  }
  ~Plan() {
    cublasLtMatrixLayoutDestroy(first_);
    cublasLtMatrixLayoutDestroy(second_);
    cublasLtMatrixLayoutDestroy(out_);
    cublasLtMatmulDescDestroy(product_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // out = op(a) op(b) + beta add + bias.
  void run(cudaStream_t stream, const void* a, const void* b, float beta, const void* add,
           const void* bias, void* out) {
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const float alpha = 1;
    const gpu::Blas& blas = gpu::blas();
    ONPA_BLAS_CHECK(cublasLtMatmul(blas.handle, product_, &alpha, b, first_, a, second_, &beta, add,
                                   out_, out, out_, &algorithm_, blas.workspace,
                                   blas.workspace_bytes, stream));
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    ONPA_BLAS_CHECK(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof value));
  }
  static cublasLtMatrixLayout_t layout(cudaDataType type, std::int64_t rows, std::int64_t cols,
                                       std::int64_t ld) {
    cublasLtMatrixLayout_t made = nullptr;
    ONPA_BLAS_CHECK(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                               static_cast<std::uint64_t>(cols), ld));
    return made;
  }
  void choose(const PlanKey& key) {
    cublasLtMatmulPreference_t wish = nullptr;
    ONPA_BLAS_CHECK(cublasLtMatmulPreferenceCreate(&wish));
    const auto want = [wish](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      ONPA_BLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof value));
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, gpu::blas().workspace_bytes);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      want(attribute, static_cast<std::uint32_t>(key.alignment));
    }
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        gpu::blas().handle, product_, first_, second_, out_, out_, wish, 1, &found, &count);
    cublasLtMatmulPreferenceDestroy(wish);
    ONPA_BLAS_CHECK(status);
    if (count == 0) {
      fail(ExitCode::kDevice, "gemm: cuBLASLt has no algorithm for ", key.m, " x ", key.n, " x ",
           key.k);
    }
    algorithm_ = found.algo;
  }

  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr, second_ = nullptr, out_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
};

// The largest power of two up to 16 that divides all addresses.
template <class... P>
unsigned common_alignment(const P*... pointers) {
  const std::uintptr_t bits =
      (std::uintptr_t{16} | ... | reinterpret_cast<std::uintptr_t>(pointers));
  return static_cast<unsigned>(bits & (~bits + 1));
}

template <class T>
void multiply(Cuda dev, const Gemm<T>& g, const T* bias, float beta, const T* add, T* out) {
  const PlanKey key = {.is_bf16 = sizeof(T) == 2,
                       .trans_a = g.trans_a == Trans::kYes,
                       .trans_b = g.trans_b == Trans::kYes,
                       .has_bias = bias != nullptr,
                       .m = g.m,
                       .n = g.n,
                       .k = g.k,
                       .lda = g.lda,
                       .ldb = g.ldb,
                       .ldc = g.ldc,
                       .alignment = common_alignment(g.a, g.b, add, out, bias)};
  static std::mutex mutex;
  static auto* plans = new std::map<PlanKey, Plan>;  // never destroyed: the driver may go before it
  const std::lock_guard lock(mutex);
  auto found = plans->find(key);
  if (found == plans->end()) found = plans->try_emplace(key, key, bias).first;
  found->second.run(gpu::stream_of(dev), g.a, g.b, beta, add, bias, out);
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
  T* sum = g.pre_activation != nullptr ? g.pre_activation : g.c;
  multiply<T>(dev, g, g.bias, g.beta, g.beta != 0 ? g.c : sum, sum);
  finish<T>(dev, g, sum, nullptr, g.residual, nullptr);
}

template void gemm<float>(Cuda, const Gemm<float>&);
template void gemm<bf16>(Cuda, const Gemm<bf16>&);

}  // namespace onpa::kernels
