// The leading tokens of each sample.
#pragma once

#include <cstdint>

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// The first `count` tokens of each sample: (B, N, C) to (B, count, C). Differentiable. Throws
/// onpa::Error unless 1 <= count <= N, as does leading_mean.
Tensor leading_rows(const Tensor& x, std::int64_t count);

/// Mean of the first `count` tokens: (B, N, C) to (B, C). Differentiable.
Tensor leading_mean(const Tensor& x, std::int64_t count);

}  // namespace onpa::ops
