// Functions of one number that several families need.
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

/// The standard normal distribution function, Phi: GELU is x Phi(x).
GPU_FN float normal_cdf(float x) {
  return fmaf(0.5f, erff(x * 0.70710678f), 0.5f);
}

}  // namespace onpa::gpu
