// Weighted sums of the rows of a batch (mixup).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace onpa::kernels {

/// y[b, :] = weight[b] x[b, :] + (1 - weight[b]) x[partner[b], :].
struct MixRows {
  const float* x;               // (batch, cols), or more rows
  const std::int32_t* partner;  // (batch), each a row of x
  const float* weight;          // (batch)
  float* y;                     // (batch, cols); not x
  std::int64_t batch, cols;
};
void mix_rows(Cpu, const MixRows&);
void mix_rows(Cuda, const MixRows&);

}  // namespace onpa::kernels
