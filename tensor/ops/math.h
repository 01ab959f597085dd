// Arithmetic, reductions and views.
#pragma once

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// a + b, a - b, a * b elementwise; equal shapes, dtypes and devices (no broadcasting).
/// Differentiable in both. Throws onpa::Error if they disagree.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);

/// alpha * x. Differentiable in x.
Tensor scale(const Tensor& x, double alpha);

/// Sum and mean of all elements, shape (1). Differentiable in x. mean throws if x is empty.
Tensor sum(const Tensor& x);
Tensor mean(const Tensor& x);

/// The same memory with another shape of equal numel, else throws onpa::Error. Differentiable in x.
Tensor reshape(const Tensor& x, const Shape& shape);

}  // namespace onpa::ops
