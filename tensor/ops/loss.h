// Losses.
#pragma once

#include "kernels/loss.h"
#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// Mean loss, shape (1), between `x` and `target` of equal shape (rows, cols). Differentiable in x.
/// Throws onpa::Error if shape, dtype or device disagrees, x is empty, or the Huber delta is no
/// positive number.
/// Parity: torch.nn.functional.{mse_loss, l1_loss, huber_loss, binary_cross_entropy_with_logits};
/// kCrossEntropy is cross_entropy with class probabilities as targets, averaged over rows.
Tensor loss(const Tensor& x, const Tensor& target, kernels::LossKind kind, float delta = 1.0f);

}  // namespace onpa::ops
