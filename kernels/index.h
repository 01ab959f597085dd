// Row gather and scatter, and the mean over leading tokens.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace onpa::kernels {

/// y[b, i, :] = x[b, index[i], :].
template <class T>
struct GatherRows {
  const T* x;                 // (batch, rows, cols)
  const std::int32_t* index;  // (kept), each in [0, rows)
  T* y;                       // (batch, kept, cols)
  std::int64_t batch, rows, kept, cols;
};
template <class T>
void gather_rows(Cpu, const GatherRows<T>&);
template <class T>
void gather_rows(Cuda, const GatherRows<T>&);

/// dx[b, index[i], :] (+)= dy[b, i, :]; with kAssign rows that no index names become 0. Indices may
/// repeat.
template <class T>
struct ScatterRows {
  const T* dy;                // (batch, kept, cols)
  const std::int32_t* index;  // (kept)
  T* dx;                      // (batch, rows, cols)
  GradMode mode;
  std::int64_t batch, rows, kept, cols;
};
template <class T>
void scatter_rows(Cpu, const ScatterRows<T>&);
template <class T>
void scatter_rows(Cuda, const ScatterRows<T>&);

/// y[b, :] = mean over t < count of x[b, t, :].
template <class T>
struct LeadingMeanFwd {
  const T* x;                               // (batch, tokens, cols)
  T* y;                                     // (batch, cols)
  std::int64_t batch, tokens, cols, count;  // 1 <= count <= tokens
};
template <class T>
void leading_mean_fwd(Cpu, const LeadingMeanFwd<T>&);
template <class T>
void leading_mean_fwd(Cuda, const LeadingMeanFwd<T>&);

/// dx[b, t, :] (+)= dy[b, :] / count for t < count; with kAssign other rows become 0.
template <class T>
struct LeadingMeanBwd {
  const T* dy;  // (batch, cols)
  T* dx;        // (batch, tokens, cols)
  GradMode mode;
  std::int64_t batch, tokens, cols, count;
};
template <class T>
void leading_mean_bwd(Cpu, const LeadingMeanBwd<T>&);
template <class T>
void leading_mean_bwd(Cuda, const LeadingMeanBwd<T>&);

/// y[b, t, :] = x[b, t, :] for t < count: the leading tokens of each sample, and its gradient
/// (dx zero elsewhere with kAssign).
template <class T>
struct LeadingRows {
  const T* x;     // (batch, tokens, cols) forward; (batch, count, cols) backward
  T* y;           // (batch, count, cols) forward; (batch, tokens, cols) backward
  GradMode mode;  // backward only
  std::int64_t batch, tokens, cols, count;
};
template <class T>
void leading_rows_fwd(Cpu, const LeadingRows<T>&);
template <class T>
void leading_rows_bwd(Cpu, const LeadingRows<T>&);
template <class T>
void leading_rows_fwd(Cuda, const LeadingRows<T>&);
template <class T>
void leading_rows_bwd(Cuda, const LeadingRows<T>&);

}  // namespace onpa::kernels
