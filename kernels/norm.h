// Layer normalisation over the last axis.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"

namespace onpa::kernels {

/// y = (x - mean) * rstd * weight + bias, per row; biased variance.
template <class T>
struct LayerNormFwd {
  const T* x;               // (rows, cols), row-major
  const T *weight, *bias;   // (cols)
  T* y;                     // (rows, cols); may be x
  stat_t<T>*mean, *rstd;    // (rows); kept for the backward pass
  std::int64_t rows, cols;  // cols >= 1
  float eps;                // > 0
};
template <class T>
void layer_norm_fwd(Cpu, const LayerNormFwd<T>&);
template <class T>
void layer_norm_fwd(Cuda, const LayerNormFwd<T>&);

/// Gradients of layer_norm_fwd. A null output is skipped. Parameter gradients are reduced in an
/// order that does not depend on the number of threads.
template <class T>
struct LayerNormBwd {
  const T *dy, *x;              // (rows, cols)
  const T* weight;              // (cols)
  const stat_t<T>*mean, *rstd;  // (rows)
  T* dx;                        // (rows, cols) or null
  GradMode dx_mode;
  T *dweight, *dbias;  // (cols), each may be null
  GradMode dweight_mode, dbias_mode;
  std::int64_t rows, cols;
  void* workspace = nullptr;  // layer_norm_bwd_workspace_bytes() of device memory, 16-byte aligned
};
template <class T>
void layer_norm_bwd(Cpu, const LayerNormBwd<T>&);
template <class T>
void layer_norm_bwd(Cuda, const LayerNormBwd<T>&);

/// Bytes of LayerNormBwd::workspace that these arguments need; it is not read.
template <class T>
std::size_t layer_norm_bwd_workspace_bytes(Cpu, const LayerNormBwd<T>&) {
  return 0;
}
template <class T>
std::size_t layer_norm_bwd_workspace_bytes(Cuda, const LayerNormBwd<T>&);

/// s = x + residual and y = layer norm of s as stored, in one pass.
template <class T>
struct AddLayerNormFwd {
  const T *x, *residual;    // (rows, cols), row-major
  const T *weight, *bias;   // (cols)
  T* s;                     // (rows, cols); may be x or residual
  T* y;                     // (rows, cols); may be x or residual, not s
  stat_t<T>*mean, *rstd;    // (rows); kept for the backward pass
  std::int64_t rows, cols;  // cols >= 1
  float eps;                // > 0
};
template <class T>
void add_layer_norm_fwd(Cpu, const AddLayerNormFwd<T>&);
template <class T>
void add_layer_norm_fwd(Cuda, const AddLayerNormFwd<T>&);

/// Gradients of add_layer_norm_fwd: dx = ds + the gradient of y in s, which is that of x and of
/// residual alike, in one pass. A null output is skipped.
template <class T>
struct AddLayerNormBwd {
  const T *dy, *ds;             // (rows, cols): gradients of y and of s
  const T* s;                   // (rows, cols)
  const T* weight;              // (cols)
  const stat_t<T>*mean, *rstd;  // (rows)
  T* dx;                        // (rows, cols) or null; may be ds
  T *dweight, *dbias;           // (cols), each may be null
  GradMode dweight_mode, dbias_mode;
  std::int64_t rows, cols;
  void* workspace = nullptr;  // add_layer_norm_bwd_workspace_bytes(), 16-byte aligned
};
template <class T>
void add_layer_norm_bwd(Cpu, const AddLayerNormBwd<T>&);
template <class T>
void add_layer_norm_bwd(Cuda, const AddLayerNormBwd<T>&);

/// Bytes of AddLayerNormBwd::workspace that these arguments need; it is not read.
template <class T>
std::size_t add_layer_norm_bwd_workspace_bytes(Cpu, const AddLayerNormBwd<T>&) {
  return 0;
}
template <class T>
std::size_t add_layer_norm_bwd_workspace_bytes(Cuda, const AddLayerNormBwd<T>&);

}  // namespace onpa::kernels
