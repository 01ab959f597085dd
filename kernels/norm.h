// Layer normalisation over the last axis.
#pragma once

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
};
template <class T>
void layer_norm_bwd(Cpu, const LayerNormBwd<T>&);
template <class T>
void layer_norm_bwd(Cuda, const LayerNormBwd<T>&);

}  // namespace onpa::kernels
