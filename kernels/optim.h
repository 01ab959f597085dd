// Optimizer steps over flat buffers, one pass each.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace onpa::kernels {

/// AdamW (decoupled weight decay) as torch.optim.AdamW:
///   param -= lr * weight_decay * param;  m, v updated;  param -= lr * mhat / (sqrt(vhat) + eps).
/// `grad_scale` multiplies the gradient first (clipping, averaging over ranks).
struct AdamW {
  float* param;       // (n)
  const float* grad;  // (n)
  float *m, *v;       // (n) first and second moments
  std::int64_t n;
  double beta1, beta2;  // double: 1 - 0.999f is off by 1e-5 of itself
  float lr, eps, weight_decay, grad_scale;
  std::int64_t step;  // 1 for the first update
};
void adamw(Cpu, const AdamW&);
void adamw(Cuda, const AdamW&);

/// SGD with (Nesterov) momentum and L2 weight decay, as torch.optim.SGD (dampening 0).
struct Sgd {
  float* param;            // (n)
  const float* grad;       // (n)
  float* momentum_buffer;  // (n), zero before the first step; null when momentum is 0
  std::int64_t n;
  float lr, momentum, weight_decay, grad_scale;
  bool nesterov;
};
void sgd(Cpu, const Sgd&);
void sgd(Cuda, const Sgd&);

/// out[0] = sum of squares of x, in double; order fixed by n alone. Not finite if any x is not.
struct SumOfSquares {
  const float* x;  // (n)
  double* out;     // (1)
  std::int64_t n;
};
void sum_of_squares(Cpu, const SumOfSquares&);
void sum_of_squares(Cuda, const SumOfSquares&);

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
