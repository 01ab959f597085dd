#include "kernels/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cpp"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "kernels/cpu/gelu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

void gelu_fwd(const float* x, float* y, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto one = [&](auto v) { return hn::Mul(v, normal_distribution(d, v).cdf); };
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(one(hn::LoadU(d, x + i)), d, y + i);
  if (i == n) return;
  HWY_ALIGN float tail[hn::MaxLanes(d)] = {};
  for (std::int64_t j = i; j < n; ++j) tail[j - i] = x[j];
  hn::Store(one(hn::Load(d, tail)), d, tail);
  for (std::int64_t j = i; j < n; ++j) y[j] = tail[j - i];
}

void gelu_bwd(const float* dy, const float* x, float* dx, bool accumulate, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto slope = [&](auto v) {
    const auto normal = normal_distribution(d, v);
    return hn::MulAdd(v, normal.pdf, normal.cdf);
  };
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto g = hn::Mul(hn::LoadU(d, dy + i), slope(hn::LoadU(d, x + i)));
    hn::StoreU(accumulate ? hn::Add(g, hn::LoadU(d, dx + i)) : g, d, dx + i);
  }
  if (i == n) return;
  HWY_ALIGN float tail[hn::MaxLanes(d)] = {};
  for (std::int64_t j = i; j < n; ++j) tail[j - i] = x[j];
  hn::Store(slope(hn::Load(d, tail)), d, tail);
  for (std::int64_t j = i; j < n; ++j) {
    const float g = dy[j] * tail[j - i];
    dx[j] = accumulate ? dx[j] + g : g;
  }
}

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
        for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? x[i] : T{0};
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
        for (std::int64_t i = 0; i < n; ++i) {
          const T g = x[i] > 0 ? dy[i] : T{0};
          dx[i] = accumulate ? dx[i] + g : g;
        }
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
