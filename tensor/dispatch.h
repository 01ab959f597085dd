// From run-time device and dtype to the compile-time tag and type that kernels are overloaded on.
#pragma once

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/error.h"
#include "kernels/scalar.h"
#include "tensor/device.h"
#include "tensor/memory_plan.h"
#include "tensor/tensor.h"

namespace onpa {

/// Calls f(Cpu{}) or f(Cuda{stream}); the latter not at all while memory is planned.
template <class F>
void on_device(DeviceKind device, F&& f) {
  if (device == DeviceKind::kCpu) {
    f(kernels::Cpu{});
    return;
  }
  if (planning_memory()) return;
#ifdef ONPA_CUDA
  f(current_cuda());
#else
  require_cuda();
#endif
}

/// Scratch memory of an op: an uninitialised tensor of f(dev) bytes, undefined for 0. `f` is called
/// while memory is planned too, with a tag that has no stream.
template <class F>
Tensor workspace(DeviceKind device, F&& f) {
  std::size_t bytes = 0;
  if (device == DeviceKind::kCpu) {
    bytes = f(kernels::Cpu{});
  } else {
#ifdef ONPA_CUDA
    bytes = f(kernels::Cuda{});
#else
    require_cuda();
#endif
  }
  if (bytes == 0) return {};
  return Tensor::empty({static_cast<std::int64_t>(bytes + 3) / 4}, DType::kI32, device);
}

/// Calls f.operator()<T>() with T float or double on the CPU, float or bf16 on the GPU; throws
/// Error for other dtypes.
template <class F>
void with_float(kernels::Cpu, DType dtype, F&& f) {
  if (dtype == DType::kF32) {
    f.template operator()<float>();
  } else if (dtype == DType::kF64) {
    f.template operator()<double>();
  } else {
    fail(ExitCode::kInternal, "dtype ", name_of(dtype), " on the CPU, where f32 or f64 is wanted");
  }
}
template <class F>
void with_float(kernels::Cuda, DType dtype, F&& f) {
  if (dtype == DType::kF32) {
    f.template operator()<float>();
  } else if (dtype == DType::kBF16) {
    f.template operator()<bf16>();
  } else {
    fail(ExitCode::kInternal, "dtype ", name_of(dtype), " on the GPU, where f32 or bf16 is wanted");
  }
}

/// Runs a kernel that needs scratch memory: args.operator()<T>() gives its arguments, bytes(dev,
/// args) the size of their workspace, run(dev, args) starts it.
template <class Args, class Bytes, class Run>
void with_workspace(DeviceKind device, DType dtype, Args&& args, Bytes&& bytes, Run&& run) {
  const Tensor scratch = workspace(device, [&](auto dev) {
    std::size_t size = 0;
    with_float(dev, dtype, [&]<class T>() { size = bytes(dev, args.template operator()<T>()); });
    return size;
  });
  on_device(device, [&](auto dev) {
    with_float(dev, dtype, [&]<class T>() {
      auto filled = args.template operator()<T>();
      filled.workspace = scratch.defined() ? scratch.bytes() : nullptr;
      run(dev, filled);
    });
  });
}

/// The dtype of statistics that go with tensors of `dtype` (stat_t).
constexpr DType stat_dtype(DType dtype) {
  return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

}  // namespace onpa
