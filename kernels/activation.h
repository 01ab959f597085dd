// Elementwise activations and dropout.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/gemm.h"
#include "kernels/philox.h"
#include "kernels/step_state.h"

namespace onpa::kernels {

/// y = act(x). GELU is the exact one, x * Phi(x) with erf.
template <class T>
struct ActivationFwd {
  const T* x;  // (n)
  T* y;        // (n); may be x
  std::int64_t n;
  Activation activation;
};
template <class T>
void activation_fwd(Cpu, const ActivationFwd<T>&);
template <class T>
void activation_fwd(Cuda, const ActivationFwd<T>&);

/// dx (+)= dy * act'(x).
template <class T>
struct ActivationBwd {
  const T *dy, *x;  // (n); x is the activation's input
  T* dx;            // (n); may be dy when mode is kAssign
  GradMode mode;
  std::int64_t n;
  Activation activation;
};
template <class T>
void activation_bwd(Cpu, const ActivationBwd<T>&);
template <class T>
void activation_bwd(Cuda, const ActivationBwd<T>&);

/// y (+)= x * keep / (1 - p). The mask of element i of row r is bit-reproducible: word i % 4 of
/// Philox block i / 4 under `key` with sample = key.sample + r, kept where uniform >= p. The same
/// call serves the backward pass (x = dy).
template <class T>
struct Dropout {
  const T* x;  // (rows, cols)
  T* y;        // (rows, cols); may be x
  GradMode mode;
  std::int64_t rows, cols;  // rows are samples
  float p;                  // [0, 1)
  RngKey key;
  const StepState* state = nullptr;  // where given, key.step is state->step
};
template <class T>
void dropout(Cpu, const Dropout<T>&);
template <class T>
void dropout(Cuda, const Dropout<T>&);

}  // namespace onpa::kernels
