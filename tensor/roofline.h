// What the device can do at most, to hold a kernel's rate against.
#pragma once

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "tensor/storage.h"

namespace onpa {

struct Roofline {
  double gflops = 0;                // multiply-add counts two
  double gigabytes_per_second = 0;  // of a copy, read and written bytes both counted

  /// Seconds that work takes at least.
  double seconds(double flops, double bytes) const;
};

/// Measured at the first call for a device and dtype and kept. The CPU: register-only float
/// multiply-adds and a copy of 256 MiB, on all threads of the pool. The GPU: the best cuBLASLt
/// algorithm of a square matrix product of f32 or bf16 (up to 8192), and a copy of up to 1 GiB, or
/// of a quarter of what is free. Throws Error: kDevice, kOutOfMemory.
Roofline measured_roofline(DeviceKind device, DType dtype = DType::kF32);

namespace detail {
Roofline measure_cuda_roofline(DType dtype);
}  // namespace detail

}  // namespace onpa
