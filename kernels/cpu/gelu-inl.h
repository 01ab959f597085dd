// The normal distribution on vectors, for exact GELU. Per-target include: no include guard of its
// own.
#if defined(ONPA_KERNELS_CPU_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_GELU_INL_H_
#undef ONPA_KERNELS_CPU_GELU_INL_H_
#else
#define ONPA_KERNELS_CPU_GELU_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct NormalDistribution {
  V cdf;  // absolute error under 1.5e-7; relative accuracy kept in the lower tail
  V pdf;
};

/// Standard normal distribution and density of x, f32. With z = |x| / sqrt(2): below 1, erf is an
/// odd polynomial fitted at Chebyshev nodes; above, erfc = exp(-z^2) times a polynomial in 1 / (z
/// + 1.5).
template <class D, class V = hn::Vec<D>>
HWY_INLINE NormalDistribution<V> normal_distribution(D d, V x) {
  const V z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f));
  const V u = hn::Mul(z, z);
  const V gauss = hn::Exp(d, hn::Neg(hn::Min(u, hn::Set(d, 110.0f))));

  V erf = hn::Set(d, -9.673590284364764e-06f);
  for (const float c :
       {0.00011268253729213029f, -0.0008484396385028958f, 0.005221053492277861f,
        -0.026865437626838684f, 0.11283782869577408f, -0.37612637877464294f, 1.128379225730896f}) {
    erf = hn::MulAdd(erf, u, hn::Set(d, c));
  }
  const V half = hn::Set(d, 0.5f);
  const V half_erf = hn::Mul(hn::Mul(erf, z), half);

  const V t = hn::Div(hn::Set(d, 1.0f), hn::Add(z, hn::Set(d, 1.5f)));
  V tail = hn::Set(d, 2.3741934299468994f);
  for (const float c : {-4.64821195602417f, 2.277869462966919f, 0.6194950342178345f,
                        0.8942446708679199f, 0.5607873797416687f, 0.00010132265742868185f}) {
    tail = hn::MulAdd(tail, t, hn::Set(d, c));
  }
  const V half_erfc = hn::Mul(hn::Mul(tail, gauss), half);

  const auto small = hn::Lt(z, hn::Set(d, 1.0f));
  const V lower = hn::IfThenElse(small, hn::Sub(half, half_erf), half_erfc);
  const V upper = hn::Sub(hn::Set(d, 1.0f), lower);
  return {hn::IfThenElse(hn::Lt(x, hn::Zero(d)), lower, upper),
          hn::Mul(gauss, hn::Set(d, 0.39894228f))};
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
