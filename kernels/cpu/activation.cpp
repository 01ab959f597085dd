#include "kernels/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cpp"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "kernels/cpu/gelu-inl.h"
#include "kernels/cpu/vector_map.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

void gelu_fwd(const float* x, float* y, std::int64_t n) {
  const hn::ScalableTag<float> d;
  map_vectors(
      n, y, false, [&](auto v) HWY_ATTR { return gelu_of(d, v); }, x);
}

void gelu_bwd(const float* dy, const float* x, float* dx, bool accumulate, std::int64_t n) {
  const hn::ScalableTag<float> d;
  map_vectors(
      n, dx, accumulate, [&](auto g, auto v) HWY_ATTR { return hn::Mul(g, gelu_slope_of(d, v)); },
      dy, x);
}

template <class T>
void relu_fwd(const T* x, T* y, std::int64_t n) {
  const hn::ScalableTag<T> d;
  // Not Max: a NaN must stay one.
  map_vectors(
      n, y, false, [&](auto v) HWY_ATTR { return hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v); },
      x);
}

template <class T>
void relu_bwd(const T* dy, const T* x, T* dx, bool accumulate, std::int64_t n) {
  const hn::ScalableTag<T> d;
  map_vectors(
      n, dx, accumulate,
      [&](auto g, auto v) HWY_ATTR { return hn::IfThenElseZero(hn::Gt(v, hn::Zero(d)), g); }, dy,
      x);
}

void relu_fwd_f32(const float* x, float* y, std::int64_t n) {
  relu_fwd(x, y, n);
}
void relu_fwd_f64(const double* x, double* y, std::int64_t n) {
  relu_fwd(x, y, n);
}
void relu_bwd_f32(const float* dy, const float* x, float* dx, bool accumulate, std::int64_t n) {
  relu_bwd(dy, x, dx, accumulate, n);
}
void relu_bwd_f64(const double* dy, const double* x, double* dx, bool accumulate, std::int64_t n) {
  relu_bwd(dy, x, dx, accumulate, n);
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(gelu_fwd);
HWY_EXPORT(gelu_bwd);
HWY_EXPORT(relu_fwd_f32);
HWY_EXPORT(relu_fwd_f64);
HWY_EXPORT(relu_bwd_f32);
HWY_EXPORT(relu_bwd_f64);

constexpr std::int64_t kGrain = 1 << 14;  // elements a range

void gelu_range(const float* x, float* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(gelu_fwd)(x, y, n);
}
void gelu_range(const double* x, double* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * 0.5 * std::erfc(-x[i] * std::sqrt(0.5));
}

void gelu_bwd_range(const float* dy, const float* x, float* dx, bool accumulate, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(gelu_bwd)(dy, x, dx, accumulate, n);
}
void gelu_bwd_range(const double* dy, const double* x, double* dx, bool accumulate,
                    std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double cdf = 0.5 * std::erfc(-x[i] * std::sqrt(0.5));
    const double pdf = std::exp(-0.5 * x[i] * x[i]) / std::sqrt(2 * M_PI);
    const double g = dy[i] * (cdf + x[i] * pdf);
    dx[i] = accumulate ? dx[i] + g : g;
  }
}

void relu_range(const float* x, float* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(relu_fwd_f32)(x, y, n);
}
void relu_range(const double* x, double* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(relu_fwd_f64)(x, y, n);
}
void relu_bwd_range(const float* dy, const float* x, float* dx, bool accumulate, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(relu_bwd_f32)(dy, x, dx, accumulate, n);
}
void relu_bwd_range(const double* dy, const double* x, double* dx, bool accumulate,
                    std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(relu_bwd_f64)(dy, x, dx, accumulate, n);
}

}  // namespace

template <class T>
void activation_fwd(Cpu, const ActivationFwd<T>& args) {
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const T* x = args.x + begin;
    T* y = args.y + begin;
    const std::int64_t n = end - begin;
    switch (args.activation) {
      case Activation::kNone:
        if (x != y) std::copy(x, x + n, y);
        break;
      case Activation::kRelu:
        relu_range(x, y, n);
        break;
      case Activation::kGelu:
        gelu_range(x, y, n);
        break;
    }
  });
}

template <class T>
void activation_bwd(Cpu, const ActivationBwd<T>& args) {
  const bool accumulate = args.mode == GradMode::kAccumulate;
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const T *dy = args.dy + begin, *x = args.x + begin;
    T* dx = args.dx + begin;
    const std::int64_t n = end - begin;
    switch (args.activation) {
      case Activation::kNone:
        for (std::int64_t i = 0; i < n; ++i) dx[i] = accumulate ? dx[i] + dy[i] : dy[i];
        break;
      case Activation::kRelu:
        relu_bwd_range(dy, x, dx, accumulate, n);
        break;
      case Activation::kGelu:
        gelu_bwd_range(dy, x, dx, accumulate, n);
        break;
    }
  });
}

template <class T>
void dropout(Cpu, const Dropout<T>& args) {
  const T scale = T{1} / (T{1} - static_cast<T>(args.p));
  const bool accumulate = args.mode == GradMode::kAccumulate;
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, args.cols));
  parallel_for(args.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      RngKey key = args.key;
      if (args.state != nullptr) key.step = args.state->step;
      key.sample += static_cast<std::uint64_t>(r);
      const T* x = args.x + r * args.cols;
      T* y = args.y + r * args.cols;
      for (std::int64_t block = 0; block * 4 < args.cols; ++block) {
        std::uint32_t words[4];
        philox_block(key, static_cast<std::uint64_t>(block), words);
        const std::int64_t last = std::min<std::int64_t>(args.cols, block * 4 + 4);
        for (std::int64_t i = block * 4; i < last; ++i) {
          const T v = uniform_from_bits(words[i % 4]) >= args.p ? x[i] * scale : T{0};
          y[i] = accumulate ? y[i] + v : v;
        }
      }
    }
  });
}

template void activation_fwd<float>(Cpu, const ActivationFwd<float>&);
template void activation_fwd<double>(Cpu, const ActivationFwd<double>&);
template void activation_bwd<float>(Cpu, const ActivationBwd<float>&);
template void activation_bwd<double>(Cpu, const ActivationBwd<double>&);
template void dropout<float>(Cpu, const Dropout<float>&);
template void dropout<double>(Cpu, const Dropout<double>&);

}  // namespace onpa::kernels

#endif  // HWY_ONCE
