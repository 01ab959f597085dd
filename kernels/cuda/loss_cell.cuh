// Loss of one cell, and its slope.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/loss.h"

namespace onpa::gpu {

/// BCE: max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow.
template <kernels::LossKind kKind>
GPU_FN float cell_loss(float x, float t, float delta) {
  using kernels::LossKind;
  if constexpr (kKind == LossKind::kBceWithLogits) {
    return (x < 0 ? 0.0f : x) - x * t + log1pf(expf(-fabsf(x)));
  } else {
    const float difference = x - t, size = fabsf(difference);
    if constexpr (kKind == LossKind::kL1) return size;
    if constexpr (kKind == LossKind::kMse) return difference * difference;
    return size > delta ? delta * (size - 0.5f * delta) : 0.5f * difference * difference;
  }
}

/// Derivative of cell_loss in x.
template <kernels::LossKind kKind>
GPU_FN float cell_slope(float x, float t, float delta) {
  using kernels::LossKind;
  if constexpr (kKind == LossKind::kBceWithLogits) {
    const float e = expf(-fabsf(x));
    return (x < 0 ? e : 1.0f) / (1.0f + e) - t;
  } else {
    const float difference = x - t;
    if constexpr (kKind == LossKind::kMse) return difference + difference;
    const float clipped = copysignf(kKind == LossKind::kL1 ? 1.0f : delta, difference);
    return fabsf(difference) > (kKind == LossKind::kL1 ? 0.0f : delta) ? clipped : difference;
  }
}

}  // namespace onpa::gpu
