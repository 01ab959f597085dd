// The update of one element by AdamW, and clipping by the gradient's norm.
#pragma once

#include <cmath>

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

/// What the host works out in double for all steps.
struct AdamWConstants {
  float log_beta1, log_beta2, beta2, one_minus_beta1, one_minus_beta2;
};
inline AdamWConstants adamw_constants(double beta1, double beta2) {
  return {static_cast<float>(std::log(beta1)), static_cast<float>(std::log(beta2)),
          static_cast<float>(beta2), static_cast<float>(1 - beta1), static_cast<float>(1 - beta2)};
}

/// What all elements of one step share.
struct AdamWFactors {
  float decay, step_size, inv_sqrt_correction2, eps;
};
GPU_FN AdamWFactors adamw_factors(const AdamWConstants& c, float lr, float step, float weight_decay,
                                  float eps) {
  // 1 - beta^step without its cancellation.
  const float correction1 = -expm1f(step * c.log_beta1);
  const float correction2 = -expm1f(step * c.log_beta2);
  return {fmaf(-lr, weight_decay, 1.0f), lr / correction1, 1.0f / sqrtf(correction2), eps};
}

GPU_FN void adamw_element(const AdamWConstants& c, const AdamWFactors& f, float g, float& param,
                          float& m, float& v) {
  m = fmaf(c.one_minus_beta1, g - m, m);
  v = fmaf(c.one_minus_beta2 * g, g, c.beta2 * v);
  const float denominator = fmaf(sqrtf(v), f.inv_sqrt_correction2, f.eps);
  param = fmaf(-f.step_size, m / denominator, param * f.decay);
}

/// grad_scale with clipping folded in, or NaN where the norm is not finite.
GPU_FN float clipped_scale(float grad_scale, double sum_of_squares, float clip_norm) {
  // The root is taken in float, of a sum brought into its range.
  constexpr double kLarge = 1e36;
  const float root = sum_of_squares < kLarge
                         ? sqrtf(static_cast<float>(sum_of_squares))
                         : sqrtf(static_cast<float>(sum_of_squares * 0x1p-160)) * 0x1p80f;
  const float norm = root * fabsf(grad_scale);
  if (!isfinite(norm)) return NAN;
  return clip_norm > 0 ? grad_scale * fminf(1.0f, clip_norm / (norm + 1e-6f)) : grad_scale;
}

}  // namespace onpa::gpu
