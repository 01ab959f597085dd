// What ops state as their work (OpWork). Additions, multiplications, comparisons, divisions, roots
// and calls such as erf count one FLOP each; attention counts its matrix products alone, as is
// usual for it.
#pragma once

#include "kernels/activation.h"
#include "tensor/autograd.h"
#include "tensor/op_scope.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// Bytes of tensors that are gone through once; a gradient that is added to is read and written.
/// Undefined ones have none.
inline double bytes_of(const Tensor& x) {
  return x.defined() ? static_cast<double>(x.byte_count()) : 0;
}
inline double bytes_of(const GradTarget& x) {
  return bytes_of(x.tensor) * (x.mode == kernels::GradMode::kAccumulate ? 2 : 1);
}
template <class First, class Second, class... More>
double bytes_of(const First& first, const Second& second, const More&... more) {
  return bytes_of(first) + bytes_of(second) + (0.0 + ... + bytes_of(more));
}

inline double elements(const Tensor& x) {
  return x.defined() ? static_cast<double>(x.numel()) : 0;
}

/// FLOPs an element of an activation, of its argument's gradient, and of a layer norm.
constexpr double activation_fwd_flops(kernels::Activation activation) {
  if (activation == kernels::Activation::kNone) return 0;
  return activation == kernels::Activation::kGelu ? 5 : 1;
}
constexpr double activation_bwd_flops(kernels::Activation activation) {
  if (activation == kernels::Activation::kNone) return 0;
  return activation == kernels::Activation::kGelu ? 11 : 2;
}
constexpr double kLayerNormFwdFlops = 8, kLayerNormBwdFlops = 13;

/// FLOPs of an (m, k) by (k, n) product.
constexpr double product_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

}  // namespace onpa::ops
