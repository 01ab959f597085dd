// For tests that hold times of the GPU against time that passes here: a simulated clock that runs
// slower than it, and a skip where there is no GPU.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tensor/device.h"

#ifdef ONPA_CUDA_SIM
#include "tests/cuda_sim/device.h"
#endif

namespace onpa::testing {

/// Why tests of the GPU cannot run; empty if they can.
inline std::string gpu_missing() {
  return has_cuda_backend() ? cuda_problem() : "this build has no CUDA";
}

/// While it lives a simulated kernel takes 0.1 us.
class ShortKernels {
 public:
#ifdef ONPA_CUDA_SIM
  ShortKernels() {
    sim::device_options().kernel_ms = 1e-4;
    sim::device_options().algorithm_ms = {1e-4, 1e-4, 1e-4};
  }
  ~ShortKernels() {
    sim::device_options() = {};
  }
#else
  ShortKernels() = default;
#endif
  ShortKernels(const ShortKernels&) = delete;
  ShortKernels& operator=(const ShortKernels&) = delete;
};

}  // namespace onpa::testing
