#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/vector_map.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void axpby(const Axpby<T>& a) {
  const hn::ScalableTag<T> d;
  const auto alpha = hn::Set(d, a.alpha), beta = hn::Set(d, a.beta);
  if (a.b == nullptr) {
    map_vectors(
        a.n, a.y, false, [&](auto v) HWY_ATTR { return hn::Mul(alpha, v); }, a.a);
  } else {
    // Not fused: the result must not depend on whether the machine has a fused multiply-add.
    map_vectors(
        a.n, a.y, false,
        [&](auto v, auto w) HWY_ATTR { return hn::Add(hn::Mul(alpha, v), hn::Mul(beta, w)); }, a.a,
        a.b);
  }
}

template <class T>
void multiply(const Multiply<T>& a) {
  map_vectors(
      a.n, a.y, a.mode == GradMode::kAccumulate,
      [](auto v, auto w) HWY_ATTR { return hn::Mul(v, w); }, a.a, a.b);
}

// Adds the rows of x to y.
template <class T>
void add_rows(const ColumnSum<T>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    map_vectors(
        a.cols, a.y, true, [](auto v) HWY_ATTR { return v; }, a.x + r * a.ldx);
  }
}

double total_f32(const float* x, std::int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::Add(s0, hn::PromoteTo(d, hn::LoadU(df, x + i)));
    s1 = hn::Add(s1, hn::PromoteTo(d, hn::LoadU(df, x + i + lanes)));
  }
  double total = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < n; ++i) total += x[i];
  return total;
}

void axpby_f32(const Axpby<float>& a) {
  axpby(a);
}
void axpby_f64(const Axpby<double>& a) {
  axpby(a);
}
void multiply_f32(const Multiply<float>& a) {
  multiply(a);
}
void multiply_f64(const Multiply<double>& a) {
  multiply(a);
}
void add_rows_f32(const ColumnSum<float>& a) {
  add_rows(a);
}
void add_rows_f64(const ColumnSum<double>& a) {
  add_rows(a);
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(axpby_f32);
HWY_EXPORT(axpby_f64);
HWY_EXPORT(multiply_f32);
HWY_EXPORT(multiply_f64);
HWY_EXPORT(add_rows_f32);
HWY_EXPORT(add_rows_f64);
HWY_EXPORT(total_f32);

void part(const Axpby<float>& a) {
  HWY_DYNAMIC_DISPATCH(axpby_f32)(a);
}
void part(const Axpby<double>& a) {
  HWY_DYNAMIC_DISPATCH(axpby_f64)(a);
}
void part(const Multiply<float>& a) {
  HWY_DYNAMIC_DISPATCH(multiply_f32)(a);
}
void part(const Multiply<double>& a) {
  HWY_DYNAMIC_DISPATCH(multiply_f64)(a);
}
void add_rows(const ColumnSum<float>& a) {
  HWY_DYNAMIC_DISPATCH(add_rows_f32)(a);
}
void add_rows(const ColumnSum<double>& a) {
  HWY_DYNAMIC_DISPATCH(add_rows_f64)(a);
}
double total(const float* x, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(total_f32)(x, n);
}
double total(const double* x, std::int64_t n) {
  return std::accumulate(x, x + n, 0.0);
}

constexpr std::int64_t kGrain = 1 << 15;     // elements a range: below it threads cost more
constexpr std::int64_t kSumBlock = 1 << 14;  // elements a partial sum
constexpr std::int64_t kSumRows = 256;       // rows a partial column sum

// Calls part() on ranges of an elementwise operation on a, b and y.
template <class Args>
void in_parts(const Args& args) {
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    Args range = args;
    range.a += begin;
    if (range.b != nullptr) range.b += begin;
    range.y += begin;
    range.n = end - begin;
    part(range);
  });
}

}  // namespace

template <class T>
void axpby(Cpu, const Axpby<T>& args) {
  in_parts(args);
}

template <class T>
void multiply(Cpu, const Multiply<T>& args) {
  in_parts(args);
}

template <class T>
void broadcast_scalar(Cpu, const BroadcastScalar<T>& args) {
  const T value = args.alpha * args.x[0];
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    if (args.mode == GradMode::kAssign) {
      std::fill(args.y + begin, args.y + end, value);
    } else {
      for (std::int64_t i = begin; i < end; ++i) args.y[i] += value;
    }
  });
}

template <class T>
void column_sum(Cpu, const ColumnSum<T>& args) {
  if (args.mode == GradMode::kAssign) std::fill_n(args.y, args.cols, T{0});
  const std::int64_t blocks = (args.rows + kSumRows - 1) / kSumRows;
  thread_local std::vector<T> scratch;
  std::vector<T>& partial = scratch;  // a thread_local is not captured: workers would see their own
  partial.assign(static_cast<std::size_t>(blocks * args.cols), T{0});
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      ColumnSum<T> rows = args;
      rows.x += block * kSumRows * args.ldx;
      rows.y = partial.data() + block * args.cols;
      rows.rows = std::min(kSumRows, args.rows - block * kSumRows);
      add_rows(rows);
    }
  });
  add_rows({.x = partial.data(),
            .ldx = args.cols,
            .y = args.y,
            .mode = GradMode::kAccumulate,
            .rows = blocks,
            .cols = args.cols});
}

template <class T>
void sum(Cpu, const Sum<T>& args) {
  const std::int64_t blocks = (args.n + kSumBlock - 1) / kSumBlock;
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t start = block * kSumBlock;
      partial[static_cast<std::size_t>(block)] =
          total(args.x + start, std::min(kSumBlock, args.n - start));
    }
  });
  args.y[0] = static_cast<T>(args.alpha * std::accumulate(partial.begin(), partial.end(), 0.0));
}

template void axpby<float>(Cpu, const Axpby<float>&);
template void axpby<double>(Cpu, const Axpby<double>&);
template void multiply<float>(Cpu, const Multiply<float>&);
template void multiply<double>(Cpu, const Multiply<double>&);
template void broadcast_scalar<float>(Cpu, const BroadcastScalar<float>&);
template void broadcast_scalar<double>(Cpu, const BroadcastScalar<double>&);
template void column_sum<float>(Cpu, const ColumnSum<float>&);
template void column_sum<double>(Cpu, const ColumnSum<double>&);
template void sum<float>(Cpu, const Sum<float>&);
template void sum<double>(Cpu, const Sum<double>&);

}  // namespace onpa::kernels

#endif  // HWY_ONCE
