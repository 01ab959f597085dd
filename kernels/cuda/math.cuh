// Functions of one number that several families need.
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

/// The standard normal distribution function, Phi: GELU is x Phi(x).
GPU_FN float normal_cdf(float x) {
  return fmaf(0.5f, erff(x * 0.70710678f), 0.5f);
}

/// Derivative of x Phi(x).
GPU_FN float gelu_slope(float x) {
  const float pdf = 0.39894228f * __expf(-0.5f * x * x);
  return fmaf(x, pdf, normal_cdf(x));
}

}  // namespace onpa::gpu
