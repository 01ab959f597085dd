#include "kernels/mix.h"

namespace onpa::kernels {

void mix_rows(Cpu, const MixRows& a) {
  for (std::int64_t b = 0; b < a.batch; ++b) {
    const float *own = a.x + b * a.cols, *other = a.x + a.partner[b] * a.cols;
    float* to = a.y + b * a.cols;
    const float weight = a.weight[b];
    for (std::int64_t i = 0; i < a.cols; ++i) to[i] = weight * own[i] + (1 - weight) * other[i];
  }
}

}  // namespace onpa::kernels
