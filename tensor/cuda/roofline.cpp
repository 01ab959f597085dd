// The GPU's part of roofline.h.
#include "tensor/roofline.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/check.h"
#include "kernels/philox.h"
#include "kernels/scalar.h"
#include "tensor/device.h"
#include "tensor/device_clock.h"
#include "tensor/device_memory.h"

namespace onpa::detail {
namespace {

// Sizes grow until a run takes this long: a larger one would not show a higher rate.
constexpr double kLongEnoughSeconds = 2e-3;
constexpr std::int64_t kSmallestProduct = 128, kLargestProduct = 8192;
constexpr std::size_t kSmallestCopy = std::size_t{16} << 20, kLargestCopy = std::size_t{1} << 30;

cudaStream_t stream() {
  return static_cast<cudaStream_t>(current_cuda().stream);
}

// Goes back to the device at its end; a Tensor's memory would be kept for other tensors.
class Block {
 public:
  explicit Block(std::size_t bytes) : data_(allocate_device_block(bytes)) {
    if (data_ == nullptr) {
      fail(ExitCode::kOutOfMemory, "out of memory on the GPU: ", bytes >> 20,
           " MiB to measure its limits");
    }
  }
  ~Block() { free_device_block(data_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
};

// The best of several runs of `work`, in seconds. Also says whether one takes long enough.
struct Timing {
  double best = INFINITY;
  bool long_enough = false;
};
Timing time_best(const std::function<void()>& work) {
  constexpr int kRuns = 10;
  Timing out;
  DeviceClock clock;
  work();
  clock.start();
  const auto begin = std::chrono::steady_clock::now();
  work();
  ONPA_CUDA_CHECK(cudaStreamSynchronize(stream()));
  const std::chrono::duration<double> once = std::chrono::steady_clock::now() - begin;
  out.long_enough = once.count() >= kLongEnoughSeconds;
  for (int i = 0; i < kRuns; ++i) {
    clock.start();
    work();
    clock.mark();
    out.best = std::min(out.best, clock.seconds().front());
  }
  return out;
}

// Random values: zeros draw less power, and with it the clock rises.
template <class T>
void fill_normal(const Block& block, std::int64_t n, std::uint64_t seed) {
  constexpr std::int64_t kPeriod = 1'000'003;
  Philox rng({.seed = seed, .stream = kStreamTest});
  std::vector<T> values(static_cast<std::size_t>(std::min(n, kPeriod)));
  for (T& v : values) v = static_cast<T>(static_cast<float>(rng.normal()));
  for (std::int64_t at = 0; at < n; at += kPeriod) {
    const auto count = static_cast<std::size_t>(std::min(n - at, kPeriod));
    ONPA_CUDA_CHECK(cudaMemcpy(static_cast<T*>(block.data()) + at, values.data(), count * sizeof(T),
                               cudaMemcpyHostToDevice));
  }
}

// c = a b of order n by cuBLASLt.
class SquareProduct {
 public:
  SquareProduct(DType dtype, std::int64_t n)
      : a_(bytes(dtype, n)), b_(bytes(dtype, n)), c_(bytes(dtype, n)) {
    if (dtype == DType::kBF16) {
      fill_normal<bf16>(a_, n * n, 1);
      fill_normal<bf16>(b_, n * n, 2);
    } else {
      fill_normal<float>(a_, n * n, 1);
      fill_normal<float>(b_, n * n, 2);
    }
    const auto order = static_cast<std::uint64_t>(n);
    const cudaDataType type = dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
    ONPA_BLAS_CHECK(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    ONPA_BLAS_CHECK(cublasLtMatrixLayoutCreate(&layout_, type, order, order, n));
    ONPA_BLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference_));
    const std::size_t workspace = gpu::blas().workspace_bytes;
    ONPA_BLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(
        preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
  }
  ~SquareProduct() {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatrixLayoutDestroy(layout_);
    cublasLtMatmulDescDestroy(product_);
  }
  SquareProduct(const SquareProduct&) = delete;
  SquareProduct& operator=(const SquareProduct&) = delete;

  // With the fastest of the algorithms that cuBLASLt proposes.
  Timing time() const {
    constexpr int kCandidates = 8;
    cublasLtMatmulHeuristicResult_t candidates[kCandidates];
    int found = 0;
    ONPA_BLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(gpu::blas().handle, product_, layout_, layout_,
                                                   layout_, layout_, preference_, kCandidates,
                                                   candidates, &found));
    Timing best;
    for (int i = 0; i < found; ++i) {
      const Timing one = time_best([&] { run(candidates[i].algo); });
      if (one.best < best.best) best = one;
    }
    return best;
  }

 private:
  static std::size_t bytes(DType dtype, std::int64_t n) {
    return static_cast<std::size_t>(n * n) * size_of(dtype);
  }
  void run(const cublasLtMatmulAlgo_t& algorithm) const {
    const gpu::Blas& blas = gpu::blas();
    const float one = 1, zero = 0;
    ONPA_BLAS_CHECK(cublasLtMatmul(blas.handle, product_, &one, a_.data(), layout_, b_.data(),
                                   layout_, &zero, c_.data(), layout_, c_.data(), layout_,
                                   &algorithm, blas.workspace, blas.workspace_bytes, stream()));
  }

  Block a_, b_, c_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t layout_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

double product_gflops(DType dtype) {
  double best = 0;
  for (std::int64_t n = kSmallestProduct; n <= kLargestProduct; n *= 2) {
    const Timing timing = SquareProduct(dtype, n).time();
    best = std::max(best, 2e-9 * std::pow(static_cast<double>(n), 3) / timing.best);
    if (timing.long_enough) break;
  }
  return best;
}

double copy_rate() {
  const std::size_t most = std::min(kLargestCopy, cuda_device().free_bytes / 4);
  double rate = 0;
  for (std::size_t bytes = kSmallestCopy; bytes <= most; bytes *= 4) {
    const Block from(bytes), to(bytes);
    const Timing timing = time_best([&] {
      ONPA_CUDA_CHECK(
          cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream()));
    });
    // The last, as smaller ones may stay in the GPU's cache.
    rate = 2e-9 * static_cast<double>(bytes) / timing.best;
    if (timing.long_enough) break;
  }
  return rate;
}

}  // namespace

Roofline measure_cuda_roofline(DType dtype) {
  require_cuda();
  return {.gflops = product_gflops(dtype), .gigabytes_per_second = copy_rate()};
}

}  // namespace onpa::detail
