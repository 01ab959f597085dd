// Optimizer steps over flat buffers, one pass each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/scalar.h"
#include "kernels/step_state.h"

namespace onpa::kernels {

/// AdamW (decoupled weight decay) as torch.optim.AdamW:
///   param -= lr * weight_decay * param;  m, v updated;  param -= lr * mhat / (sqrt(vhat) + eps).
/// `grad_scale` multiplies the gradient first (averaging over ranks, undoing a loss scale). With
/// `grad_sum_of_squares`, norm = sqrt of it * |grad_scale| is the gradient's norm: if it is not
/// finite nothing is written; else the gradient is also multiplied by min(1, clip_norm / (norm +
/// 1e-6)) where clip_norm > 0, as torch.nn.utils.clip_grad_norm_. All of that is one launch.
struct AdamW {
  float* param;       // (n)
  const float* grad;  // (n); null where grad_bf16 is given
  float *m, *v;       // (n) first and second moments
  std::int64_t n;
  double beta1, beta2;  // double: 1 - 0.999f is off by 1e-5 of itself
  float lr, eps, weight_decay, grad_scale;
  std::int64_t step;                            // 1 for the first update
  const double* grad_sum_of_squares = nullptr;  // (1)
  float clip_norm = 0;                          // 0: not clipped
  const StepState* state = nullptr;  // where given, its optimizer_step, lr and clip_norm are used
  const bf16* grad_bf16 = nullptr;   // (n); CUDA only
  bf16* param_bf16 = nullptr;        // (n) or null: gets the new param, rounded; CUDA only
  float lr_scale = 1;                // multiplies lr, that of `state` too
};
void adamw(Cpu, const AdamW&);
void adamw(Cuda, const AdamW&);

/// SGD with (Nesterov) momentum and L2 weight decay, as torch.optim.SGD (dampening 0). Scaling,
/// clipping and what the last fields do: see AdamW.
struct Sgd {
  float* param;            // (n)
  const float* grad;       // (n); null where grad_bf16 is given
  float* momentum_buffer;  // (n), zero before the first step; null when momentum is 0
  std::int64_t n;
  float lr, momentum, weight_decay, grad_scale;
  bool nesterov;
  const double* grad_sum_of_squares = nullptr;  // (1)
  float clip_norm = 0;
  const StepState* state = nullptr;
  const bf16* grad_bf16 = nullptr;
  bf16* param_bf16 = nullptr;
  float lr_scale = 1;
};
void sgd(Cpu, const Sgd&);
void sgd(Cuda, const Sgd&);

/// out[0] = sum of squares of x, in double; order fixed by n alone. Not finite if any x is not.
struct SumOfSquares {
  const float* x;  // (n); null where x_bf16 is given
  double* out;     // (1)
  std::int64_t n;
  const bf16* x_bf16 = nullptr;  // (n); CUDA only
  void* workspace = nullptr;     // sum_of_squares_workspace_bytes() of device memory
};
void sum_of_squares(Cpu, const SumOfSquares&);
void sum_of_squares(Cuda, const SumOfSquares&);

/// Bytes of SumOfSquares::workspace, 16-byte aligned, that these arguments need; it is not read.
inline std::size_t sum_of_squares_workspace_bytes(Cpu, const SumOfSquares&) {
  return 0;
}
std::size_t sum_of_squares_workspace_bytes(Cuda, const SumOfSquares&);

/// average += weight * (param - average): EMA (weight = 1 - decay) and SWA (weight = 1 / (count +
/// 1)).
struct AverageWeights {
  float* average;      // (n)
  const float* param;  // (n)
  float weight;        // [0, 1]
  std::int64_t n;
};
void average_weights(Cpu, const AverageWeights&);
void average_weights(Cuda, const AverageWeights&);

}  // namespace onpa::kernels
