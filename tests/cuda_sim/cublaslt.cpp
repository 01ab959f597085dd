// The cuBLASLt calls that the product makes, on the simulated device: column-major products of
// float or bf16 with float sums, bias along the rows, and C added.
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda_sim/device.h"

namespace {

struct Product {
  cublasOperation_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct Layout {
  cudaDataType type;
  std::uint64_t rows, cols;
  std::int64_t ld;
};

template <class To, class From>
To* cast(From* opaque) {
  return reinterpret_cast<To*>(opaque);
}

float read(const void* base, cudaDataType type, std::int64_t at) {
  return type == CUDA_R_16BF ? static_cast<float>(static_cast<const onpa::bf16*>(base)[at])
                             : static_cast<const float*>(base)[at];
}
void write(void* base, cudaDataType type, std::int64_t at, float value) {
  if (type == CUDA_R_16BF) {
    static_cast<onpa::bf16*>(base)[at] = onpa::bf16(value);
  } else {
    static_cast<float*>(base)[at] = value;
  }
}

struct Call {
  Product product;
  Layout a_layout, b_layout, c_layout, d_layout;
  float alpha, beta;
  const void *a, *b, *c;
  void* d;

  // All candidates work out the same.
  void run(int candidate) const {
    sim::DeviceStats& stats = sim::device_stats();
    const bool biased = product.epilogue == CUBLASLT_EPILOGUE_BIAS;
    ++stats.products[candidate];
    stats.biased_products += biased;
    stats.clock_ms += sim::device_options().algorithm_ms[static_cast<std::size_t>(candidate)] +
                      (biased ? sim::device_options().bias_ms : 0);
    multiply();
  }

 private:
  void multiply() const {
    const bool a_turned = product.trans_a == CUBLAS_OP_T, b_turned = product.trans_b == CUBLAS_OP_T;
    const auto rows = static_cast<std::int64_t>(d_layout.rows),
               cols = static_cast<std::int64_t>(d_layout.cols),
               depth = static_cast<std::int64_t>(a_turned ? a_layout.rows : a_layout.cols);
    // Both operands first, depth-major, so that the loop over them is plain.
    std::vector<float> left(static_cast<std::size_t>(rows * depth)),
        right(static_cast<std::size_t>(depth * cols));
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int64_t at = a_turned ? k + i * a_layout.ld : i + k * a_layout.ld;
        left[static_cast<std::size_t>(i * depth + k)] = read(a, a_layout.type, at);
      }
    }
    for (std::int64_t j = 0; j < cols; ++j) {
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int64_t at = b_turned ? j + k * b_layout.ld : k + j * b_layout.ld;
        right[static_cast<std::size_t>(j * depth + k)] = read(b, b_layout.type, at);
      }
    }
    for (std::int64_t j = 0; j < cols; ++j) {
      for (std::int64_t i = 0; i < rows; ++i) {
        const float* x = left.data() + i * depth;
        const float* y = right.data() + j * depth;
        float sum = 0;
        for (std::int64_t k = 0; k < depth; ++k) sum += x[k] * y[k];
        float value = alpha * sum;
        if (beta != 0) value += beta * read(c, c_layout.type, i + j * c_layout.ld);
        if (product.epilogue == CUBLASLT_EPILOGUE_BIAS)
          value += read(product.bias, d_layout.type, i);
        write(d, d_layout.type, i + j * d_layout.ld, value);
      }
    }
  }
};

bool fits(const Layout& l, std::int64_t rows, std::int64_t cols) {
  return static_cast<std::int64_t>(l.rows) == rows && static_cast<std::int64_t>(l.cols) == cols &&
         l.ld >= rows && rows > 0 && cols > 0;
}

// The checks that the library makes of shapes.
bool shapes_agree(const Product& p, const Layout& a, const Layout& b, const Layout& c,
                  const Layout& d) {
  const auto rows = static_cast<std::int64_t>(d.rows), cols = static_cast<std::int64_t>(d.cols);
  const bool a_turned = p.trans_a == CUBLAS_OP_T, b_turned = p.trans_b == CUBLAS_OP_T;
  const auto depth = static_cast<std::int64_t>(a_turned ? a.rows : a.cols);
  return fits(a, a_turned ? depth : rows, a_turned ? rows : depth) &&
         fits(b, b_turned ? cols : depth, b_turned ? depth : cols) && fits(c, rows, cols) &&
         fits(d, rows, cols) && a.type == b.type && c.type == d.type && a.type == d.type;
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
                                                 : "CUBLAS_STATUS_NOT_SUPPORTED";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int anchor;
  *handle = cast<cublasLtContext>(&anchor);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *made = cast<cublasLtMatmulDescOpaque_t>(new Product);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  delete cast<Product>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  auto* product = cast<Product>(desc);
  const auto store = [&](auto& field) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return store(product->trans_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return store(product->trans_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return store(product->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return store(product->bias);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  *made = cast<cublasLtMatrixLayoutOpaque_t>(new Layout{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  delete cast<Layout>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  *made = new cublasLtMatmulPreferenceOpaque_t{};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  *count = 0;
  if (!shapes_agree(*cast<Product>(desc), *cast<Layout>(a), *cast<Layout>(b), *cast<Layout>(c),
                    *cast<Layout>(d))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *count = std::min(wanted, static_cast<int>(sim::device_options().algorithm_ms.size()));
  for (int i = 0; i < *count; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<std::uint64_t>(i);
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t,
                              cudaStream_t stream) {
  const Call call = {*cast<Product>(desc),
                     *cast<Layout>(a_layout),
                     *cast<Layout>(b_layout),
                     *cast<Layout>(c_layout),
                     *cast<Layout>(d_layout),
                     *static_cast<const float*>(alpha),
                     *static_cast<const float*>(beta),
                     a,
                     b,
                     c,
                     d};
  if (!shapes_agree(call.product, call.a_layout, call.b_layout, call.c_layout, call.d_layout)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (const void* p :
       {a, b, c, static_cast<const void*>(d), static_cast<const void*>(workspace)}) {
    if (!sim::detail::is_device_memory(p)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const int candidate = static_cast<int>(algorithm->data[0]);
  if (sim::device_options().algorithm_ms.at(static_cast<std::size_t>(candidate)) < 0) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  sim::detail::enqueue(stream, [call, candidate] { call.run(candidate); });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
