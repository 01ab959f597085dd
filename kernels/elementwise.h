// Elementwise arithmetic and reductions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"

namespace onpa::kernels {

/// y = alpha * a + beta * b  (b may be null when beta is 0).
template <class T>
struct Axpby {
  const T *a, *b;  // (n)
  T* y;            // (n); may be a or b
  stat_t<T> alpha, beta;
  std::int64_t n;
};
template <class T>
void axpby(Cpu, const Axpby<T>&);
template <class T>
void axpby(Cuda, const Axpby<T>&);

/// y (+)= a * b.
template <class T>
struct Multiply {
  const T *a, *b;  // (n)
  T* y;            // (n); may be a or b when mode is kAssign
  GradMode mode;
  std::int64_t n;
};
template <class T>
void multiply(Cpu, const Multiply<T>&);
template <class T>
void multiply(Cuda, const Multiply<T>&);

/// y (+)= alpha * x[0]: broadcasts a scalar held in memory over n elements.
template <class T>
struct BroadcastScalar {
  const T* x;  // (1)
  T* y;        // (n)
  stat_t<T> alpha;
  GradMode mode;
  std::int64_t n;
};
template <class T>
void broadcast_scalar(Cpu, const BroadcastScalar<T>&);
template <class T>
void broadcast_scalar(Cuda, const BroadcastScalar<T>&);

/// y (+)= sum over rows of x: the bias gradient. Order of summation is fixed by the shape alone.
template <class T>
struct ColumnSum {
  const T* x;  // (rows, cols) with row stride ldx
  std::int64_t ldx;
  T* y;  // (cols)
  GradMode mode;
  std::int64_t rows, cols;
  void* workspace = nullptr;  // column_sum_workspace_bytes() of device memory, 16-byte aligned
};
template <class T>
void column_sum(Cpu, const ColumnSum<T>&);
template <class T>
void column_sum(Cuda, const ColumnSum<T>&);

/// Bytes of ColumnSum::workspace that these arguments need; it is not read.
template <class T>
std::size_t column_sum_workspace_bytes(Cpu, const ColumnSum<T>&) {
  return 0;
}
template <class T>
std::size_t column_sum_workspace_bytes(Cuda, const ColumnSum<T>&);

/// y[0] = alpha * sum(x). Order of summation is fixed by n alone; double accumulation.
template <class T>
struct Sum {
  const T* x;  // (n)
  T* y;        // (1)
  stat_t<T> alpha;
  std::int64_t n;
  void* workspace = nullptr;  // sum_workspace_bytes() of device memory, 16-byte aligned
};
template <class T>
void sum(Cpu, const Sum<T>&);
template <class T>
void sum(Cuda, const Sum<T>&);

/// Bytes of Sum::workspace that these arguments need; it is not read.
template <class T>
std::size_t sum_workspace_bytes(Cpu, const Sum<T>&) {
  return 0;
}
template <class T>
std::size_t sum_workspace_bytes(Cuda, const Sum<T>&);

}  // namespace onpa::kernels
