// From run-time device and dtype to the compile-time tag and type that kernels are overloaded on.
#pragma once

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/error.h"
#include "tensor/storage.h"

namespace onpa {

/// Calls f(Cpu{}) or f(Cuda{stream}).
template <class F>
void on_device(DeviceKind device, F&& f) {
  ONPA_CHECK(device == DeviceKind::kCpu, "this build has no CUDA");
  f(kernels::Cpu{});
}

/// Calls f.operator()<T>() with T float or double; throws Error for other dtypes.
template <class F>
void with_float(DType dtype, F&& f) {
  if (dtype == DType::kF32) {
    f.template operator()<float>();
  } else if (dtype == DType::kF64) {
    f.template operator()<double>();
  } else {
    fail(ExitCode::kInternal, "dtype ", name_of(dtype), " where f32 or f64 is wanted");
  }
}

}  // namespace onpa
