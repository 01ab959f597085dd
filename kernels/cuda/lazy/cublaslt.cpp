// cuBLASLt, loaded at its first use (library.h).
#include <cublasLt.h>

#include "kernels/cuda/lazy/library.h"

namespace {

void* library() {
  static void* handle =
      onpa::gpu::load_library("cuBLASLt", ONPA_CUBLASLT_SONAME, ONPA_CUBLASLT_PATH);
  return handle;
}

}  // namespace

// The library's function of the same name, looked up once.
#define FORWARD(function, ...)                                              \
  static auto* const loaded = onpa::gpu::load_function<decltype(function)>( \
      library(), "cuBLASLt", ONPA_CUBLASLT_SONAME, #function);              \
  return loaded(__VA_ARGS__)

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t status) {
  FORWARD(cublasLtGetStatusString, status);
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  FORWARD(cublasLtCreate, handle);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  FORWARD(cublasLtMatmulDescCreate, made, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  FORWARD(cublasLtMatmulDescDestroy, made);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  FORWARD(cublasLtMatmulDescSetAttribute, product, attribute, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  FORWARD(cublasLtMatrixLayoutCreate, made, type, rows, cols, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  FORWARD(cublasLtMatrixLayoutDestroy, made);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  FORWARD(cublasLtMatmulPreferenceCreate, made);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  FORWARD(cublasLtMatmulPreferenceDestroy, made);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  FORWARD(cublasLtMatmulPreferenceSetAttribute, preference, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  FORWARD(cublasLtMatmulAlgoGetHeuristic, handle, product, a, b, c, d, preference, wanted, results,
          count);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  FORWARD(cublasLtMatmul, handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d,
          d_layout, algorithm, workspace, workspace_bytes, stream);
}

}  // extern "C"
