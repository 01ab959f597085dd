// The leading tokens of each sample, and their mean.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace onpa::kernels {

/// Arguments of the kernels over the leading tokens of each sample. A backward kernel reads the
/// gradient of the forward kernel's y as x and writes that of its x to y: the other tokens become 0
/// with kAssign and stay with kAccumulate.
template <class T>
struct LeadingTokens {
  const T* x;                               // forward (batch, tokens, cols)
  T* y;                                     // backward (batch, tokens, cols)
  GradMode mode;                            // backward only
  std::int64_t batch, tokens, cols, count;  // 1 <= count <= tokens
};

/// y[b, t, :] = x[b, t, :] for t < count, y (batch, count, cols).
template <class T>
void leading_rows_fwd(Cpu, const LeadingTokens<T>&);
template <class T>
void leading_rows_bwd(Cpu, const LeadingTokens<T>&);
template <class T>
void leading_rows_fwd(Cuda, const LeadingTokens<T>&);
template <class T>
void leading_rows_bwd(Cuda, const LeadingTokens<T>&);

/// y[b, :] = mean over t < count of x[b, t, :], y (batch, cols).
template <class T>
void leading_mean_fwd(Cpu, const LeadingTokens<T>&);
template <class T>
void leading_mean_bwd(Cpu, const LeadingTokens<T>&);
template <class T>
void leading_mean_fwd(Cuda, const LeadingTokens<T>&);
template <class T>
void leading_mean_bwd(Cuda, const LeadingTokens<T>&);

}  // namespace onpa::kernels
