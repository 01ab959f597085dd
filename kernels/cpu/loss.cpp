#include "kernels/loss.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss.cpp"
#include <hwy/foreach_target.h>
// clang-format off
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Highway's Exp, Min and Max answer NaN with a number; a loss must not hide one.
template <class D, class V>
HWY_INLINE V keep_nan(D, V x, V y) {
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// Loss of each cell. BCE: max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow.
template <LossKind kKind, class D, class V>
HWY_INLINE V cell_loss(D d, V x, V t, V delta) {
  if constexpr (kKind == LossKind::kBceWithLogits) {
    const V log_term = hn::Log1p(d, hn::Exp(d, hn::Neg(hn::Abs(x))));
    return hn::Add(hn::Sub(hn::Max(x, hn::Zero(d)), hn::Mul(x, t)), log_term);
  } else {
    const V difference = hn::Sub(x, t);
    const V size = hn::Abs(difference);
    if constexpr (kKind == LossKind::kL1) return size;
    if constexpr (kKind == LossKind::kMse) return hn::Mul(difference, difference);
    const V half = hn::Set(d, hn::TFromD<D>{0.5});
    const V inside = hn::Mul(half, hn::Mul(difference, difference));
    const V outside = hn::Mul(delta, hn::Sub(size, hn::Mul(half, delta)));
    return hn::IfThenElse(hn::Gt(size, delta), outside, inside);
  }
}

// Derivative of cell_loss in x.
template <LossKind kKind, class D, class V>
HWY_INLINE V cell_slope(D d, V x, V t, V delta) {
  const V one = hn::Set(d, hn::TFromD<D>{1});
  if constexpr (kKind == LossKind::kBceWithLogits) {
    const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
    const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
    return keep_nan(d, x, hn::Sub(hn::Div(numerator, hn::Add(one, e)), t));
  } else {
    const V difference = hn::Sub(x, t);
    if constexpr (kKind == LossKind::kMse) return hn::Add(difference, difference);
    const V limit = kKind == LossKind::kL1 ? one : delta;
    const V clipped = hn::CopySign(limit, difference);
    if constexpr (kKind == LossKind::kL1) {
      return hn::IfThenElse(hn::Gt(hn::Abs(difference), hn::Zero(d)), clipped, difference);
    }
    return hn::IfThenElse(hn::Gt(hn::Abs(difference), delta), clipped, difference);
  }
}

// As many lanes of T as a vector of doubles has: sums are kept in double, and a loss is small
// beside the model that it judges.
template <class T>
using TagOf = hn::Rebind<T, hn::ScalableTag<double>>;

template <class D, class V>
HWY_INLINE double sum_as_double(D, V v) {
  const hn::ScalableTag<double> wide;
  if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return hn::GetLane(hn::SumOfLanes(wide, v));
  } else {
    return hn::GetLane(hn::SumOfLanes(wide, hn::PromoteTo(wide, v)));
  }
}

// Calls visit(x, t, i, count) with vectors of both inputs from [0, n); count is the number of lanes
// that hold data. Lanes past the end hold `fill` in x and 0 in t.
template <class T, class Visit>
HWY_INLINE void for_vectors(const T* x, const T* t, std::int64_t n, T fill, const Visit& visit) {
  const TagOf<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) visit(hn::LoadU(d, x + i), hn::LoadU(d, t + i), i, lanes);
  if (i == n) return;
  HWY_ALIGN T x_tail[hn::MaxLanes(d)], t_tail[hn::MaxLanes(d)] = {};
  std::fill_n(x_tail, lanes, fill);
  std::copy(x + i, x + n, x_tail);
  std::copy(t + i, t + n, t_tail);
  visit(hn::Load(d, x_tail), hn::Load(d, t_tail), i, n - i);
}

// dx[i ... i + count) (+)= v.
template <class D, class V>
HWY_INLINE void put(D d, V v, hn::TFromD<D>* dx, std::int64_t count, GradMode mode) {
  if (count == static_cast<std::int64_t>(hn::Lanes(d))) {
    if (mode == GradMode::kAccumulate) v = hn::Add(v, hn::LoadU(d, dx));
    hn::StoreU(v, d, dx);
    return;
  }
  HWY_ALIGN hn::TFromD<D> tail[hn::MaxLanes(d)];
  hn::Store(v, d, tail);
  for (std::int64_t j = 0; j < count; ++j) {
    dx[j] = mode == GradMode::kAccumulate ? dx[j] + tail[j] : tail[j];
  }
}

template <LossKind kKind, class T>
double cells_fwd(const T* x, const T* t, std::int64_t n, T delta) {
  const TagOf<T> d;
  const auto threshold = hn::Set(d, delta);
  double sum = 0;
  for_vectors(x, t, n, T{0}, [&](auto xv, auto tv, std::int64_t, std::int64_t count) {
    auto loss = cell_loss<kKind>(d, xv, tv, threshold);
    if (count < static_cast<std::int64_t>(hn::Lanes(d))) {
      loss = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(count)), loss);
    }
    sum += sum_as_double(d, loss);
  });
  return sum;
}

template <LossKind kKind, class T>
void cells_bwd(const T* x, const T* t, T* dx, std::int64_t n, T delta, T scale, GradMode mode) {
  const TagOf<T> d;
  const auto threshold = hn::Set(d, delta);
  const auto factor = hn::Set(d, scale);
  for_vectors(x, t, n, T{0}, [&](auto xv, auto tv, std::int64_t i, std::int64_t count) {
    put(d, hn::Mul(factor, cell_slope<kKind>(d, xv, tv, threshold)), dx + i, count, mode);
  });
}

// What a row of logits is normalised by: softmax_c = exp(x_c - max) / sum.
template <class T>
struct RowStatistics {
  T max;
  double sum, target_sum;
};

template <class T>
RowStatistics<T> row_statistics(const T* x, const T* t, std::int64_t n) {
  const TagOf<T> d;
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  RowStatistics<T> row{kLowest, 0, 0};
  auto max = hn::Set(d, kLowest);
  for_vectors(x, t, n, kLowest,
              [&](auto xv, auto, std::int64_t, std::int64_t) { max = hn::Max(max, xv); });
  row.max = hn::GetLane(hn::MaxOfLanes(d, max));
  const auto shift = hn::Set(d, row.max);
  for_vectors(x, t, n, kLowest, [&](auto xv, auto tv, std::int64_t, std::int64_t) {
    const auto shifted = hn::Sub(xv, shift);
    row.sum += sum_as_double(d, keep_nan(d, shifted, hn::Exp(d, shifted)));
    row.target_sum += sum_as_double(d, tv);
  });
  return row;
}

template <class T>
double row_fwd(const T* x, const T* t, std::int64_t n) {
  const TagOf<T> d;
  const RowStatistics<T> row = row_statistics(x, t, n);
  const auto log_sum = hn::Set(d, static_cast<T>(std::log(row.sum)));
  const auto shift = hn::Set(d, row.max);
  double loss = 0;
  for_vectors(x, t, n, row.max, [&](auto xv, auto tv, std::int64_t, std::int64_t) {
    loss += sum_as_double(d, hn::Mul(tv, hn::Sub(log_sum, hn::Sub(xv, shift))));
  });
  return loss;
}

template <class T>
void row_bwd(const T* x, const T* t, T* dx, std::int64_t n, T scale, GradMode mode) {
  const TagOf<T> d;
  const RowStatistics<T> row = row_statistics(x, t, n);
  const auto weight = hn::Set(d, static_cast<T>(row.target_sum / row.sum));
  const auto shift = hn::Set(d, row.max);
  const auto factor = hn::Set(d, scale);
  for_vectors(x, t, n, row.max, [&](auto xv, auto tv, std::int64_t i, std::int64_t count) {
    const auto shifted = hn::Sub(xv, shift);
    const auto e = keep_nan(d, shifted, hn::Exp(d, shifted));
    put(d, hn::Mul(factor, hn::Sub(hn::Mul(weight, e), tv)), dx + i, count, mode);
  });
}

// Sum of the losses of cells [begin, end), or of rows for kCrossEntropy.
template <class T>
double partial_loss(const LossFwd<T>& a, std::int64_t begin, std::int64_t end) {
  const T* x = a.x + begin;
  const T* t = a.target + begin;
  const T delta = static_cast<T>(a.delta);
  switch (a.kind) {
    case LossKind::kMse:
      return cells_fwd<LossKind::kMse>(x, t, end - begin, delta);
    case LossKind::kL1:
      return cells_fwd<LossKind::kL1>(x, t, end - begin, delta);
    case LossKind::kHuber:
      return cells_fwd<LossKind::kHuber>(x, t, end - begin, delta);
    case LossKind::kBceWithLogits:
      return cells_fwd<LossKind::kBceWithLogits>(x, t, end - begin, delta);
    case LossKind::kCrossEntropy:
      break;
  }
  double sum = 0;
  for (std::int64_t r = begin; r < end; ++r) {
    sum += row_fwd(a.x + r * a.cols, a.target + r * a.cols, a.cols);
  }
  return sum;
}

template <class T>
void partial_slope(const LossBwd<T>& a, T scale, std::int64_t begin, std::int64_t end) {
  const T* x = a.x + begin;
  const T* t = a.target + begin;
  T* dx = a.dx + begin;
  const std::int64_t n = end - begin;
  const T delta = static_cast<T>(a.delta);
  switch (a.kind) {
    case LossKind::kMse:
      return cells_bwd<LossKind::kMse>(x, t, dx, n, delta, scale, a.mode);
    case LossKind::kL1:
      return cells_bwd<LossKind::kL1>(x, t, dx, n, delta, scale, a.mode);
    case LossKind::kHuber:
      return cells_bwd<LossKind::kHuber>(x, t, dx, n, delta, scale, a.mode);
    case LossKind::kBceWithLogits:
      return cells_bwd<LossKind::kBceWithLogits>(x, t, dx, n, delta, scale, a.mode);
    case LossKind::kCrossEntropy:
      break;
  }
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int64_t at = r * a.cols;
    row_bwd(a.x + at, a.target + at, a.dx + at, a.cols, scale, a.mode);
  }
}

double loss_f32(const LossFwd<float>& a, std::int64_t begin, std::int64_t end) {
  return partial_loss(a, begin, end);
}
double loss_f64(const LossFwd<double>& a, std::int64_t begin, std::int64_t end) {
  return partial_loss(a, begin, end);
}
void slope_f32(const LossBwd<float>& a, float scale, std::int64_t begin, std::int64_t end) {
  partial_slope(a, scale, begin, end);
}
void slope_f64(const LossBwd<double>& a, double scale, std::int64_t begin, std::int64_t end) {
  partial_slope(a, scale, begin, end);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace onpa::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {
namespace {

HWY_EXPORT(loss_f32);
HWY_EXPORT(loss_f64);
HWY_EXPORT(slope_f32);
HWY_EXPORT(slope_f64);

// Cells of one partial sum. Fixed, so the result depends on the shape alone.
constexpr std::int64_t kChunkCells = 8192;

// What is summed and averaged over: cells, or rows of classes; and how many of them make a chunk.
struct Items {
  std::int64_t count, chunk;
};
Items items_of(LossKind kind, std::int64_t rows, std::int64_t cols) {
  if (kind != LossKind::kCrossEntropy) return {rows * cols, kChunkCells};
  return {rows, std::max<std::int64_t>(1, kChunkCells / std::max<std::int64_t>(1, cols))};
}

}  // namespace

template <class T>
void loss_fwd(Cpu, const LossFwd<T>& a) {
  const Items items = items_of(a.kind, a.rows, a.cols);
  const std::int64_t chunks = (items.count + items.chunk - 1) / items.chunk;
  std::vector<double> partial(static_cast<std::size_t>(chunks));
  parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * items.chunk;
      const std::int64_t last = std::min(items.count, first + items.chunk);
      double& sum = partial[static_cast<std::size_t>(c)];
      if constexpr (std::is_same_v<T, float>) {
        sum = HWY_DYNAMIC_DISPATCH(loss_f32)(a, first, last);
      } else {
        sum = HWY_DYNAMIC_DISPATCH(loss_f64)(a, first, last);
      }
    }
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  *a.loss = static_cast<T>(sum / static_cast<double>(items.count));
}

template <class T>
void loss_bwd(Cpu, const LossBwd<T>& a) {
  const Items items = items_of(a.kind, a.rows, a.cols);
  const T scale = static_cast<T>(*a.dloss / static_cast<double>(items.count));
  parallel_for(items.count, items.chunk, [&](std::int64_t begin, std::int64_t end) {
    if constexpr (std::is_same_v<T, float>) {
      HWY_DYNAMIC_DISPATCH(slope_f32)(a, scale, begin, end);
    } else {
      HWY_DYNAMIC_DISPATCH(slope_f64)(a, scale, begin, end);
    }
  });
}

template void loss_fwd<float>(Cpu, const LossFwd<float>&);
template void loss_fwd<double>(Cpu, const LossFwd<double>&);
template void loss_bwd<float>(Cpu, const LossBwd<float>&);
template void loss_bwd<double>(Cpu, const LossBwd<double>&);

}  // namespace onpa::kernels
#endif
