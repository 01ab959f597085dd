// Exact GELU and its slope on vectors, f32. Per-target include: no include guard of its own.
#if defined(ONPA_KERNELS_CPU_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_GELU_INL_H_
#undef ONPA_KERNELS_CPU_GELU_INL_H_
#else
#define ONPA_KERNELS_CPU_GELU_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Coefficients: tools/fit_gelu.py.

template <class V>
struct NormalTail {
  V gauss;  // exp(-a^2 / 2)
  V ratio;  // Phi(-a) / gauss, Phi the standard normal distribution
};

/// For a in [0, 14], f32. gauss is 0 from a = 13.3 on.
template <class D, class V = hn::Vec<D>>
HWY_INLINE NormalTail<V> normal_tail(D d, V a) {
  // 2^exponent = 2^whole 2^part, |part| <= 1/2.
  const V exponent = hn::Mul(hn::Mul(a, a), hn::Set(d, -0.72134752f));
  const V whole = hn::Round(exponent), part = hn::Sub(exponent, whole);
  V power = hn::Set(d, 0.00015345811f);
  for (const float c :
       {0.00133999309f, 0.00961848907f, 0.0555032864f, 0.240226462f, 0.693147182f, 1.0f}) {
    power = hn::MulAdd(power, part, hn::Set(d, c));
  }
  const hn::RebindToSigned<D> di;
  const auto biased = hn::Max(hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127)), hn::Zero(di));
  const V gauss = hn::Mul(power, hn::BitCast(d, hn::ShiftLeft<23>(biased)));

  V above = hn::Set(d, 0.014129932f), below = hn::Set(d, 0.0354291461f);
  for (const float c : {0.107196227f, 0.340576351f, 0.5f}) {
    above = hn::MulAdd(above, a, hn::Set(d, c));
  }
  for (const float c : {0.268324614f, 0.894513428f, 1.4790355f, 1.0f}) {
    below = hn::MulAdd(below, a, hn::Set(d, c));
  }
  return {gauss, hn::Div(above, below)};
}

/// `lower` where x < 0, else 1 - lower: what x gets if -|x| gets `lower`.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V by_sign(D d, V x, V lower) {
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), lower, hn::Sub(hn::Set(d, 1.0f), lower));
}

// |x| up to 14, beyond which Phi is 0 or 1 in float. Not Min: a NaN must stay one.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V bounded_size(D d, V x) {
  const V a = hn::Abs(x), most = hn::Set(d, 14.0f);
  return hn::IfThenElse(hn::Gt(a, most), most, a);
}

/// x Phi(x): error under 1.6e-7 |x|, and in the lower tail, to -5, under 3e-5 of the value.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_of(D d, V x) {
  const auto [gauss, ratio] = normal_tail(d, bounded_size(d, x));
  return hn::Mul(x, by_sign(d, x, hn::Mul(gauss, ratio)));
}

/// The slope of x Phi(x), Phi(x) + x phi(x): error under 2e-7.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_slope_of(D d, V x) {
  const V a = bounded_size(d, x);
  const auto [gauss, ratio] = normal_tail(d, a);
  return by_sign(d, x, hn::Mul(gauss, hn::NegMulAdd(a, hn::Set(d, 0.39894228f), ratio)));
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
