// Row selection.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// x (B, R, C) to (B, index.size(), C): rows picked by index, which may repeat. Differentiable.
/// Throws onpa::Error for an index outside [0, R).
Tensor gather_rows(const Tensor& x, const std::vector<std::int32_t>& index);

/// The first `count` tokens of each sample: (B, N, C) to (B, count, C). Differentiable. Throws
/// onpa::Error unless 1 <= count <= N, as does leading_mean.
Tensor leading_rows(const Tensor& x, std::int64_t count);

/// Mean of the first `count` tokens: (B, N, C) to (B, C). Differentiable.
Tensor leading_mean(const Tensor& x, std::int64_t count);

}  // namespace onpa::ops
