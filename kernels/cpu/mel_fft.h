// Power spectra of real frames of 1024 samples, one frame per vector lane. Included once per
// Highway target.
//
// The frame is read as 512 complex points (even samples real, odd ones imaginary); three radix-8
// passes transform them in place and leave them in digit-reversed order, which the last step, the
// split into the spectrum of the real frame, undoes by addressing.
#if defined(ONPA_KERNELS_CPU_MEL_FFT_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_MEL_FFT_H_
#undef ONPA_KERNELS_CPU_MEL_FFT_H_
#else
#define ONPA_KERNELS_CPU_MEL_FFT_H_
#endif

#include <cstddef>

#include "hwy/highway.h"
#include "kernels/cpu/mel_tables.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr std::size_t kLanes = hn::MaxLanes(D());

// Eight runs of 64 points; one point of padding between runs keeps the eight inputs of a first-pass
// butterfly out of one cache set. A point is two vectors, real then imaginary.
constexpr std::size_t kRun = 65;
constexpr std::size_t kPointFloats = 2 * kLanes;
constexpr std::size_t kPointsFloats = 8 * kRun * kPointFloats;
constexpr std::size_t kPowerFloats = 513 * kLanes;

HWY_INLINE constexpr std::size_t point_offset(std::size_t n) {
  return (n / 64 * kRun + n % 64) * kPointFloats;
}
// Where the passes leave output k.
HWY_INLINE constexpr std::size_t spectrum_offset(std::size_t k) {
  return ((k & 7) * kRun + (k >> 3 & 7) * 8 + (k >> 6)) * kPointFloats;
}

struct Complex {
  V re, im;
};
HWY_API Complex operator+(Complex a, Complex b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}
HWY_API Complex operator-(Complex a, Complex b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}
// a - i b and a + i b.
HWY_API Complex sub_i(Complex a, Complex b) {
  return {hn::Add(a.re, b.im), hn::Sub(a.im, b.re)};
}
HWY_API Complex add_i(Complex a, Complex b) {
  return {hn::Sub(a.re, b.im), hn::Add(a.im, b.re)};
}
HWY_API Complex times(Complex a, float re, float im) {
  const D d;
  const V vre = hn::Set(d, re), vim = hn::Set(d, im);
  return {hn::NegMulAdd(a.im, vim, hn::Mul(a.re, vre)), hn::MulAdd(a.im, vre, hn::Mul(a.re, vim))};
}

// One DFT of 8 over points `stride` floats apart, in place; output q > 0 is multiplied by
// twiddle[q - 1] unless twiddle is null.
template <bool kTwiddle>
HWY_INLINE void butterfly8(float* HWY_RESTRICT p, std::size_t stride, const Twiddle* twiddle) {
  const D d;
  const auto load = [&](std::size_t r) HWY_ATTR {
    return Complex{hn::Load(d, p + r * stride), hn::Load(d, p + r * stride + kLanes)};
  };
  const auto store = [&](std::size_t q, Complex v) HWY_ATTR {
    if (kTwiddle && q > 0) v = times(v, twiddle[q - 1].re, twiddle[q - 1].im);
    hn::Store(v.re, d, p + q * stride);
    hn::Store(v.im, d, p + q * stride + kLanes);
  };
  const Complex x1 = load(1), x5 = load(5), x3 = load(3), x7 = load(7);
  const Complex t4 = x1 + x5, t5 = x1 - x5, t6 = x3 + x7, t7 = x3 - x7;
  const Complex y0 = t4 + t6, y2 = t4 - t6, y1 = sub_i(t5, t7), y3 = add_i(t5, t7);
  // exp(-i pi / 4) y1 and exp(-3 i pi / 4) y3.
  const V half_sqrt = hn::Set(d, 0.70710678118654752f);
  const Complex z1{hn::Mul(half_sqrt, hn::Add(y1.re, y1.im)),
                   hn::Mul(half_sqrt, hn::Sub(y1.im, y1.re))};
  const Complex z3{hn::Mul(half_sqrt, hn::Sub(y3.im, y3.re)),
                   hn::Mul(half_sqrt, hn::Add(y3.re, y3.im))};  // imaginary part negated

  const Complex x0 = load(0), x4 = load(4), x2 = load(2), x6 = load(6);
  const Complex t0 = x0 + x4, t1 = x0 - x4, t2 = x2 + x6, t3 = x2 - x6;
  const Complex a0 = t0 + t2, a2 = t0 - t2, a1 = sub_i(t1, t3), a3 = add_i(t1, t3);
  store(0, a0 + y0);
  store(4, a0 - y0);
  store(1, a1 + z1);
  store(5, a1 - z1);
  store(2, sub_i(a2, y2));
  store(6, add_i(a2, y2));
  store(3, Complex{hn::Add(a3.re, z3.re), hn::Sub(a3.im, z3.im)});
  store(7, Complex{hn::Sub(a3.re, z3.re), hn::Add(a3.im, z3.im)});
}

// DFT of 512 points in place; output k is left at spectrum_offset(k).
HWY_ATTR void transform(const MelTables& tables, float* HWY_RESTRICT points) {
  for (std::size_t j = 0; j < 64; ++j) {
    butterfly8<true>(points + j * kPointFloats, kRun * kPointFloats, tables.twiddle512[j]);
  }
  for (std::size_t q = 0; q < 8; ++q) {
    float* run = points + q * kRun * kPointFloats;  // 64 points stay in L1 for both passes
    for (std::size_t j = 0; j < 8; ++j) {
      butterfly8<true>(run + j * kPointFloats, 8 * kPointFloats, tables.twiddle64[j]);
    }
    for (std::size_t j = 0; j < 8; ++j) {
      butterfly8<false>(run + j * 8 * kPointFloats, kPointFloats, nullptr);
    }
  }
}

// |X_k|^2, k = 0 .. 512, of the real frame whose halved samples were transformed: with a = Z_k,
// b = Z_(512-k): X_k = e + w o and X_(512-k) = conj(e - w o), where e = a + conj(b),
// o = -i (a - conj(b)), w = exp(-2 pi i k / 1024).
HWY_ATTR void split_power(const MelTables& tables, const float* HWY_RESTRICT points,
                          float* HWY_RESTRICT power) {
  const D d;
  for (std::size_t k = 0; k <= 256; ++k) {
    const float* pa = points + spectrum_offset(k);
    const float* pb = points + spectrum_offset((512 - k) % 512);
    const V ar = hn::Load(d, pa), ai = hn::Load(d, pa + kLanes);
    const V br = hn::Load(d, pb), bi = hn::Load(d, pb + kLanes);
    const Complex e{hn::Add(ar, br), hn::Sub(ai, bi)};
    const Complex o{hn::Add(ai, bi), hn::Sub(br, ar)};
    const Complex wo = times(o, tables.split[k].re, tables.split[k].im);
    const Complex low = e + wo, high = e - wo;
    hn::Store(hn::MulAdd(low.re, low.re, hn::Mul(low.im, low.im)), d, power + k * kLanes);
    hn::Store(hn::MulAdd(high.re, high.re, hn::Mul(high.im, high.im)), d,
              power + (512 - k) * kLanes);
  }
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // ONPA_KERNELS_CPU_MEL_FFT_H_
