// Filling with one value and converting between element types.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/scalar.h"

namespace onpa::kernels {

/// y = value.
template <class T>
struct Fill {
  T* y;  // (n)
  stat_t<T> value;
  std::int64_t n;
};
template <class T>
void fill(Cpu, const Fill<T>&);
template <class T>
void fill(Cuda, const Fill<T>&);

/// y = x, rounded to nearest even where To is narrower. On the CPU From and To are float or double,
/// on the GPU float or bf16.
template <class From, class To>
struct Convert {
  const From* x;  // (n)
  To* y;          // (n)
  std::int64_t n;
};
template <class From, class To>
void convert(Cpu, const Convert<From, To>&);
template <class From, class To>
void convert(Cuda, const Convert<From, To>&);

}  // namespace onpa::kernels
