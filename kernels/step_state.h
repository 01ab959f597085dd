// What changes from one training step to the next, kept in device memory so that a captured CUDA
// graph stays valid: the host writes it before each replay, kernels read it.
#pragma once

#include <cstdint>

namespace onpa::kernels {

struct StepState {
  std::uint64_t step = 0;            // RNG counter: replaces RngKey::step
  std::uint64_t optimizer_step = 1;  // 1 for the first update
  float lr = 0;                      // learning rate of this step
  float clip_norm = 0;               // 0: gradients are not clipped
};

}  // namespace onpa::kernels
