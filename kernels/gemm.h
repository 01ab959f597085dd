// General matrix multiplication with the epilogues that the models use.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"

namespace onpa::kernels {

enum class Trans : std::uint8_t { kNo, kYes };
enum class Activation : std::uint8_t { kNone, kGelu, kRelu };

/// c = act(op(a) op(b) + beta c + bias) + residual, all row-major, T in {float, double}.
/// With `pre_activation` set, the argument of `act` is written there (backward needs it).
template <class T>
struct Gemm {
  Trans trans_a = Trans::kNo;        // op(a) is (m, k): a is (m, k), or (k, m) if kYes
  Trans trans_b = Trans::kNo;        // op(b) is (k, n): b is (k, n), or (n, k) if kYes
  std::int64_t m = 0, n = 0, k = 0;  // >= 0
  const T* a = nullptr;
  std::int64_t lda = 0;  // elements between rows of a
  const T* b = nullptr;
  std::int64_t ldb = 0;
  T* c = nullptr;
  std::int64_t ldc = 0;
  stat_t<T> beta = 0;       // 0 or 1
  const T* bias = nullptr;  // (n) or null
  Activation activation = Activation::kNone;
  T* pre_activation = nullptr;  // (m, n) with row stride ldc, or null
  // (m, n) with row stride ldc, or null; may be c where there is no activation and beta is 0, else
  // Error.
  const T* residual = nullptr;
};
template <class T>
void gemm(Cpu, const Gemm<T>&);
template <class T>
void gemm(Cuda, const Gemm<T>&);

}  // namespace onpa::kernels
