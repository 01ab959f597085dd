#include "kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which re-includes this file once per target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Two vectors of partial sums hide the latency of addition. `load(i, d)` gives lanes i..i+L of the
// terms, `tail(i)` one term.
template <class T, class Load, class Tail>
HWY_ATTR HWY_INLINE T sum_of(std::int64_t n, const Load& load, const Tail& tail) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::Add(s0, load(i));
    s1 = hn::Add(s1, load(i + lanes));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, load(i));
  T sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < n; ++i) sum += tail(i);
  return sum;
}

template <class T>
HWY_ATTR void forward_row(const LayerNormFwd<T>& a, std::int64_t row) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), cols = a.cols;
  const T* HWY_RESTRICT x = a.x + row * cols;
  T* y = a.y + row * cols;

  const T mean = sum_of<T>(
                     cols, [&](std::int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
                     [&](std::int64_t i) { return x[i]; }) /
                 static_cast<T>(cols);
  // Deviations are summed in a second sweep over the row, which is in L1 by now: E[x^2] - mean^2
  // would cancel.
  const auto vmean = hn::Set(d, mean);
  const T variance = sum_of<T>(
                         cols,
                         [&](std::int64_t i) HWY_ATTR {
                           const auto c = hn::Sub(hn::LoadU(d, x + i), vmean);
                           return hn::Mul(c, c);
                         },
                         [&](std::int64_t i) { return (x[i] - mean) * (x[i] - mean); }) /
                     static_cast<T>(cols);
  const T rstd = T{1} / std::sqrt(variance + static_cast<T>(a.eps));
  a.mean[row] = mean;
  a.rstd[row] = rstd;

  const auto vrstd = hn::Set(d, rstd);
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    const auto xhat = hn::Mul(hn::Sub(hn::LoadU(d, x + i), vmean), vrstd);
    hn::StoreU(hn::MulAdd(xhat, hn::LoadU(d, a.weight + i), hn::LoadU(d, a.bias + i)), d, y + i);
  }
  for (; i < cols; ++i) y[i] = (x[i] - mean) * rstd * a.weight[i] + a.bias[i];
}

// s = x + residual of one row.
template <class T>
HWY_ATTR void add_row(const AddLayerNormFwd<T>& a, std::int64_t row) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), cols = a.cols;
  const T *x = a.x + row * cols, *residual = a.residual + row * cols;
  T* s = a.s + row * cols;
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, residual + i)), d, s + i);
  }
  for (; i < cols; ++i) s[i] = x[i] + residual[i];
}

// dx of one row: rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = dy * weight, added to `add`,
// a (rows, cols) that may be dx, unless that is null.
template <class T>
HWY_ATTR void backward_row(const LayerNormBwd<T>& a, const T* add, std::int64_t row) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), cols = a.cols;
  const T* HWY_RESTRICT x = a.x + row * cols;
  const T* HWY_RESTRICT dy = a.dy + row * cols;
  const T* HWY_RESTRICT w = a.weight;
  T* dx = a.dx + row * cols;
  const T mean = a.mean[row], rstd = a.rstd[row];
  const auto vmean = hn::Set(d, mean), vrstd = hn::Set(d, rstd);

  const T g_mean = sum_of<T>(
                       cols,
                       [&](std::int64_t i)
                           HWY_ATTR { return hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, w + i)); },
                       [&](std::int64_t i) { return dy[i] * w[i]; }) /
                   static_cast<T>(cols);
  const T gx_mean = sum_of<T>(
                        cols,
                        [&](std::int64_t i) HWY_ATTR {
                          const auto xhat = hn::Mul(hn::Sub(hn::LoadU(d, x + i), vmean), vrstd);
                          return hn::Mul(hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, w + i)), xhat);
                        },
                        [&](std::int64_t i) { return dy[i] * w[i] * ((x[i] - mean) * rstd); }) /
                    static_cast<T>(cols);

  if (add) add += row * cols;
  const auto vg = hn::Set(d, g_mean), vgx = hn::Set(d, gx_mean);
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    const auto xhat = hn::Mul(hn::Sub(hn::LoadU(d, x + i), vmean), vrstd);
    const auto g = hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, w + i));
    const auto out = hn::Mul(hn::NegMulAdd(xhat, vgx, hn::Sub(g, vg)), vrstd);
    hn::StoreU(add ? hn::Add(hn::LoadU(d, add + i), out) : out, d, dx + i);
  }
  for (; i < cols; ++i) {
    const T out = (dy[i] * w[i] - g_mean - (x[i] - mean) * rstd * gx_mean) * rstd;
    dx[i] = add ? add[i] + out : out;
  }
}

// Adds one row's share of the parameter gradients to the sums of its chunk.
template <class T>
HWY_ATTR void add_parameter_gradient(const LayerNormBwd<T>& a, std::int64_t row,
                                     T* HWY_RESTRICT dweight, T* HWY_RESTRICT dbias) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), cols = a.cols;
  const T* HWY_RESTRICT x = a.x + row * cols;
  const T* HWY_RESTRICT dy = a.dy + row * cols;
  const T mean = a.mean[row], rstd = a.rstd[row];
  const auto vmean = hn::Set(d, mean), vrstd = hn::Set(d, rstd);
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    const auto xhat = hn::Mul(hn::Sub(hn::LoadU(d, x + i), vmean), vrstd);
    const auto g = hn::LoadU(d, dy + i);
    hn::StoreU(hn::MulAdd(g, xhat, hn::LoadU(d, dweight + i)), d, dweight + i);
    hn::StoreU(hn::Add(g, hn::LoadU(d, dbias + i)), d, dbias + i);
  }
  for (; i < cols; ++i) {
    dweight[i] += dy[i] * ((x[i] - mean) * rstd);
    dbias[i] += dy[i];
  }
}

template <class T>
HWY_ATTR void forward_rows(const LayerNormFwd<T>& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) forward_row(a, row);
}

// One sweep over the rows of a chunk serves dx and, where `dweight` is given, the parameters.
template <class T>
HWY_ATTR void backward_rows(const LayerNormBwd<T>& a, const T* add, std::int64_t begin,
                            std::int64_t end, T* dweight, T* dbias) {
  for (std::int64_t row = begin; row < end; ++row) {
    if (dweight) add_parameter_gradient(a, row, dweight, dbias);
    if (a.dx) backward_row(a, add, row);
  }
}

template <class T>
HWY_ATTR void add_forward_rows(const AddLayerNormFwd<T>& a, std::int64_t begin, std::int64_t end) {
  const LayerNormFwd<T> norm{a.s, a.weight, a.bias, a.y, a.mean, a.rstd, a.rows, a.cols, a.eps};
  for (std::int64_t row = begin; row < end; ++row) {
    add_row(a, row);
    forward_row(norm, row);
  }
}

void forward_rows_f32(const LayerNormFwd<float>& a, std::int64_t begin, std::int64_t end) {
  forward_rows(a, begin, end);
}
void forward_rows_f64(const LayerNormFwd<double>& a, std::int64_t begin, std::int64_t end) {
  forward_rows(a, begin, end);
}
void add_forward_rows_f32(const AddLayerNormFwd<float>& a, std::int64_t begin, std::int64_t end) {
  add_forward_rows(a, begin, end);
}
void add_forward_rows_f64(const AddLayerNormFwd<double>& a, std::int64_t begin, std::int64_t end) {
  add_forward_rows(a, begin, end);
}
void backward_rows_f32(const LayerNormBwd<float>& a, const float* add, std::int64_t begin,
                       std::int64_t end, float* dweight, float* dbias) {
  backward_rows(a, add, begin, end, dweight, dbias);
}
void backward_rows_f64(const LayerNormBwd<double>& a, const double* add, std::int64_t begin,
                       std::int64_t end, double* dweight, double* dbias) {
  backward_rows(a, add, begin, end, dweight, dbias);
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {
namespace {

HWY_EXPORT(forward_rows_f32);
HWY_EXPORT(forward_rows_f64);
HWY_EXPORT(add_forward_rows_f32);
HWY_EXPORT(add_forward_rows_f64);
HWY_EXPORT(backward_rows_f32);
HWY_EXPORT(backward_rows_f64);

void forward_rows(const LayerNormFwd<float>& a, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(forward_rows_f32)(a, begin, end);
}
void forward_rows(const LayerNormFwd<double>& a, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(forward_rows_f64)(a, begin, end);
}
void add_forward_rows(const AddLayerNormFwd<float>& a, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(add_forward_rows_f32)(a, begin, end);
}
void add_forward_rows(const AddLayerNormFwd<double>& a, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(add_forward_rows_f64)(a, begin, end);
}
void backward_rows(const LayerNormBwd<float>& a, const float* add, std::int64_t begin,
                   std::int64_t end, float* dw, float* db) {
  HWY_DYNAMIC_DISPATCH(backward_rows_f32)(a, add, begin, end, dw, db);
}
void backward_rows(const LayerNormBwd<double>& a, const double* add, std::int64_t begin,
                   std::int64_t end, double* dw, double* db) {
  HWY_DYNAMIC_DISPATCH(backward_rows_f64)(a, add, begin, end, dw, db);
}

constexpr std::int64_t kRowGrain = 16;
// Parameter gradients: at most this many chunks of rows, each summed on its own.
constexpr std::int64_t kMaxChunks = 64;
constexpr std::int64_t kMinChunkRows = 16;

// out (+)= sum over chunks of `sums`, whose chunks lie `stride` apart, first chunk first.
template <class T>
void reduce_chunks(const T* sums, std::int64_t chunks, std::int64_t stride, std::int64_t cols,
                   T* out, GradMode mode) {
  if (!out) return;
  if (mode == GradMode::kAssign) std::fill_n(out, cols, T{0});
  for (std::int64_t k = 0; k < chunks; ++k) {
    for (std::int64_t c = 0; c < cols; ++c) out[c] += sums[k * stride + c];
  }
}

// `add` is added to dx; see backward_row. a.dx_mode is not looked at.
template <class T>
void backward(const LayerNormBwd<T>& a, const T* add) {
  if (!a.dweight && !a.dbias) {
    if (!a.dx) return;
    parallel_for(a.rows, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
      backward_rows(a, add, begin, end, static_cast<T*>(nullptr), static_cast<T*>(nullptr));
    });
    return;
  }
  // Chunk boundaries depend on the shape alone, so the sums do too.
  const std::int64_t chunk_rows = std::max(kMinChunkRows, (a.rows + kMaxChunks - 1) / kMaxChunks);
  const std::int64_t chunks = (a.rows + chunk_rows - 1) / chunk_rows;
  thread_local std::vector<T> scratch;
  std::vector<T>& sums = scratch;  // a thread_local is not captured: workers would see their own
  sums.assign(static_cast<std::size_t>(chunks * 2 * a.cols), T{0});
  parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      T* dweight = sums.data() + k * 2 * a.cols;
      backward_rows(a, add, k * chunk_rows, std::min(a.rows, (k + 1) * chunk_rows), dweight,
                    dweight + a.cols);
    }
  });
  reduce_chunks(sums.data(), chunks, 2 * a.cols, a.cols, a.dweight, a.dweight_mode);
  reduce_chunks(sums.data() + a.cols, chunks, 2 * a.cols, a.cols, a.dbias, a.dbias_mode);
}

}  // namespace

template <class T>
void layer_norm_fwd(Cpu, const LayerNormFwd<T>& a) {
  parallel_for(a.rows, kRowGrain,
               [&](std::int64_t begin, std::int64_t end) { forward_rows(a, begin, end); });
}

template <class T>
void layer_norm_bwd(Cpu, const LayerNormBwd<T>& a) {
  backward<T>(a, a.dx_mode == GradMode::kAccumulate ? a.dx : nullptr);
}

template <class T>
void add_layer_norm_fwd(Cpu, const AddLayerNormFwd<T>& a) {
  parallel_for(a.rows, kRowGrain,
               [&](std::int64_t begin, std::int64_t end) { add_forward_rows(a, begin, end); });
}

template <class T>
void add_layer_norm_bwd(Cpu, const AddLayerNormBwd<T>& a) {
  backward<T>({.dy = a.dy,
               .x = a.s,
               .weight = a.weight,
               .mean = a.mean,
               .rstd = a.rstd,
               .dx = a.dx,
               .dx_mode = GradMode::kAssign,
               .dweight = a.dweight,
               .dbias = a.dbias,
               .dweight_mode = a.dweight_mode,
               .dbias_mode = a.dbias_mode,
               .rows = a.rows,
               .cols = a.cols},
              a.ds);
}

template void layer_norm_fwd(Cpu, const LayerNormFwd<float>&);
template void layer_norm_fwd(Cpu, const LayerNormFwd<double>&);
template void layer_norm_bwd(Cpu, const LayerNormBwd<float>&);
template void layer_norm_bwd(Cpu, const LayerNormBwd<double>&);
template void add_layer_norm_fwd(Cpu, const AddLayerNormFwd<float>&);
template void add_layer_norm_fwd(Cpu, const AddLayerNormFwd<double>&);
template void add_layer_norm_bwd(Cpu, const AddLayerNormBwd<float>&);
template void add_layer_norm_bwd(Cpu, const AddLayerNormBwd<double>&);

}  // namespace onpa::kernels
#endif  // HWY_ONCE
