#include "kernels/cuda/gemm_plan.h"

#include <cublasLt.h>

#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/timing.h"
#include "kernels/gemm_tuning.h"

namespace onpa::gpu {
namespace {

// Algorithms that cuBLASLt is asked for, best first as it thinks.
constexpr int kCandidates = 8;

// Device memory to time into; null if there is none.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) {
    if (cudaMalloc(&memory_, bytes) == cudaSuccess) return;
    cudaGetLastError();  // it would be reported again by the next launch
    memory_ = nullptr;
  }
  ~Scratch() { cudaFree(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

// The largest power of two up to 16 that divides all addresses.
unsigned common_alignment(const Product& p) {
  std::uintptr_t bits = 16;
  for (const void* address : {p.a, p.b, p.add, p.bias, static_cast<const void*>(p.out)}) {
    bits |= reinterpret_cast<std::uintptr_t>(address);
  }
  return static_cast<unsigned>(bits & (~bits + 1));
}

// cuBLASLt counts columns first: our row-major c = a b is its c^T = b^T a^T, so b comes first.
class Plan {
 public:
  // For products like this one, whose addresses are multiples of `alignment` bytes.
  Plan(const Product& like, unsigned alignment) : shape_(like.shape) {
    const ProductShape& s = shape_;
    const cudaDataType type = s.is_bf16 ? CUDA_R_16BF : CUDA_R_32F;
    ONPA_BLAS_CHECK(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE,
        s.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, like.bias);  // the choice looks at its address
    first_ = layout(type, s.trans_b ? s.k : s.n, s.trans_b ? s.n : s.k, s.ldb);
    second_ = layout(type, s.trans_a ? s.m : s.k, s.trans_a ? s.k : s.m, s.lda);
    out_ = layout(type, s.n, s.m, s.ldc);
    find_candidates(alignment);
  }
  ~Plan() {
    cublasLtMatrixLayoutDestroy(first_);
    cublasLtMatrixLayoutDestroy(second_);
    cublasLtMatrixLayoutDestroy(out_);
    cublasLtMatmulDescDestroy(product_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  void run(cudaStream_t stream, const Product& p) {
    if (p.bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    const bool tuning = kernels::gemm_tuning();
    if (tuning && !timed_ && can_time(stream)) choose_by_timing(stream, p);
    ONPA_BLAS_CHECK(start(stream, p, candidates_[tuning ? chosen_ : 0], p.out));
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

  void find_candidates(unsigned alignment) {
    cublasLtMatmulPreference_t wish = nullptr;
    ONPA_BLAS_CHECK(cublasLtMatmulPreferenceCreate(&wish));
    const auto want = [wish](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      ONPA_BLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof value));
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, blas().workspace_bytes);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      want(attribute, static_cast<std::uint32_t>(alignment));
    }
    cublasLtMatmulHeuristicResult_t found[kCandidates] = {};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        blas().handle, product_, first_, second_, out_, out_, wish, kCandidates, found, &count);
    cublasLtMatmulPreferenceDestroy(wish);
    ONPA_BLAS_CHECK(status);
    for (int i = 0; i < count; ++i) {
      if (found[i].state == CUBLAS_STATUS_SUCCESS) candidates_.push_back(found[i].algo);
    }
    if (candidates_.empty()) {
      fail(ExitCode::kDevice, "gemm: cuBLASLt has no algorithm for ", describe(shape_));
    }
  }

  cublasStatus_t start(cudaStream_t stream, const Product& p, const cublasLtMatmulAlgo_t& algorithm,
                       void* out) const {
    const float alpha = 1;
    const Blas& b = blas();
    return cublasLtMatmul(b.handle, product_, &alpha, p.b, first_, p.a, second_, &p.beta, p.add,
                          out_, out, out_, &algorithm, b.workspace, b.workspace_bytes, stream);
  }

  void choose_by_timing(cudaStream_t stream, const Product& p) {
    timed_ = true;
    if (candidates_.size() == 1) return;
    // `out` will be overwritten anyway, but not before it has been read.
    const bool reads_out = p.beta != 0 && p.add == p.out;
    std::optional<Scratch> scratch;
    if (reads_out) {
      const std::int64_t elements = (shape_.m - 1) * shape_.ldc + shape_.n;
      scratch.emplace(static_cast<std::size_t>(elements) * (shape_.is_bf16 ? 2 : 4));
      if (scratch->get() == nullptr) {
        kernels::record_gemm_choice(describe(shape_) + ": not timed, no memory to do it in");
        return;
      }
    }
    void* out = reads_out ? scratch->get() : p.out;
    std::vector<float> ms;
    for (const cublasLtMatmulAlgo_t& algorithm : candidates_) {
      // A candidate may turn out not to work.
      const bool works = start(stream, p, algorithm, out) == CUBLAS_STATUS_SUCCESS;
      ms.push_back(works
                       ? time_ms(stream, [&] { ONPA_BLAS_CHECK(start(stream, p, algorithm, out)); })
                       : std::numeric_limits<float>::infinity());
    }
    chosen_ = static_cast<std::size_t>(fastest(ms));
    std::ostringstream line;
    line << describe(shape_) << ": candidate " << chosen_ + 1 << " of " << ms.size() << ", "
         << ms[chosen_] << " ms; the first takes " << ms.front() << " ms";
    kernels::record_gemm_choice(line.str());
  }

  ProductShape shape_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr, second_ = nullptr, out_ = nullptr;
  std::vector<cublasLtMatmulAlgo_t> candidates_;
  std::size_t chosen_ = 0;
  bool timed_ = false;
};

}  // namespace

std::string describe(const ProductShape& shape) {
  std::ostringstream out;
  out << (shape.is_bf16 ? "bf16 " : "f32 ") << shape.m << " x " << shape.n << " x " << shape.k
      << (shape.trans_a ? ", a transposed" : "") << (shape.trans_b ? ", b transposed" : "")
      << (shape.has_bias ? ", bias" : "");
  return out.str();
}

void multiply(cudaStream_t stream, const Product& product) {
  using Key = std::pair<ProductShape, unsigned>;
  static std::mutex mutex;
  static auto* plans = new std::map<Key, Plan>;  // never destroyed: the driver may go before it
  const std::lock_guard lock(mutex);
  const Key key(product.shape, common_alignment(product));
  auto found = plans->find(key);
  if (found == plans->end()) found = plans->try_emplace(key, product, key.second).first;
  found->second.run(stream, product);
}

}  // namespace onpa::gpu
