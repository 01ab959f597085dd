// One matrix product through cuBLASLt, with what its epilogues do exactly: a bias, and a matrix
// that is added.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <tuple>

namespace onpa::gpu {

/// What decides how a product can run; row-major as in kernels/gemm.h.
struct ProductShape {
  bool is_bf16 = false;  // else float
  bool trans_a = false, trans_b = false, has_bias = false;
  std::int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldc = 0;

  auto tie() const { return std::tie(is_bf16, trans_a, trans_b, has_bias, m, n, k, lda, ldb, ldc); }
  friend bool operator<(const ProductShape& a, const ProductShape& b) { return a.tie() < b.tie(); }
};
/// For people: "bf16 17240 x 3072 x 768, b transposed, bias".
std::string describe(const ProductShape& shape);

/// out = op(a) op(b) + beta add + bias.
struct Product {
  ProductShape shape;
  const void *a = nullptr, *b = nullptr;
  float beta = 0;
  const void* add = nullptr;   // with the strides of out; may be out
  const void* bias = nullptr;  // null unless shape.has_bias
  void* out = nullptr;
};

/// Queues the product. Its plan, made at the first use, is kept. Where kernels::gemm_tuning() is on
/// and `stream` is not being captured, the first use also times cuBLASLt's candidates, without a
/// change to anything but `out`; if `add` is `out`, in memory of its own that is freed again (none
/// left: the first candidate stays). Throws Error (kDevice, kOutOfMemory).
void multiply(cudaStream_t stream, const Product& product);

}  // namespace onpa::gpu
