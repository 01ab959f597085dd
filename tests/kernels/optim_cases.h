// Cases and references of the optimizer tests on every device.
#pragma once

#include <cmath>
#include <cstdint>

namespace onpa::kernels {

// 1, primes, below and over a vector, over a chunk with an odd tail, empty.
inline constexpr std::int64_t kOptimCounts[] = {0, 1, 3, 7, 17, 1009, 16384 + 5, 3 * 65536 + 13};

// A power of two, so that lr / kLrScale * kLrScale is lr.
inline constexpr float kLrScale = 0.25f;

struct AdamWCase {
  double beta1 = 0.9, beta2 = 0.999;
  float lr = 0.01f, eps = 1e-8f, weight_decay = 0.1f;
};

/// One parameter and its moments.
struct AdamWElement {
  double p, m = 0, v = 0;
  /// Step `step` (1 for the first) with gradient g.
  void update(const AdamWCase& c, double g, int step) {
    p -= static_cast<double>(c.lr) * c.weight_decay * p;
    m = c.beta1 * m + (1 - c.beta1) * g;
    v = c.beta2 * v + (1 - c.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(c.beta1, step));
    const double v_hat = v / (1 - std::pow(c.beta2, step));
    p -= c.lr * m_hat / (std::sqrt(v_hat) + c.eps);
  }
};

struct SgdCase {
  float lr = 0.1f, momentum = 0, weight_decay = 0.01f;
  bool nesterov = false;
};
inline constexpr SgdCase kSgdCases[] = {
    {}, {.momentum = 0.9f}, {.momentum = 0.9f, .nesterov = true}};

struct SgdElement {
  double p, b = 0;
  void update(const SgdCase& c, double gradient) {
    const double g = gradient + c.weight_decay * p;
    b = c.momentum * b + g;
    p -= c.lr * (c.momentum == 0 ? g : c.nesterov ? g + c.momentum * b : b);
  }
};

}  // namespace onpa::kernels
