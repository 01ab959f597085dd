// Device functions that CUDA's headers do not declare for a plain compiler. The approximate ones
// are computed as exactly as the host can: tests need tolerances.
#pragma once

#include <cuda_bf16.h>
#include <math.h>
#include <vector_types.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

// glibc declares functions of some of these names without defining them.
#define __expf sim_expf
#define __exp10f sim_exp10f
#define __logf sim_logf
#define __log2f sim_log2f
#define __log10f sim_log10f
#define __sinf sim_sinf
#define __cosf sim_cosf
#define __tanf sim_tanf
#define __powf sim_powf
inline float sim_expf(float x) {
  return expf(x);
}
inline float sim_exp10f(float x) {
  return powf(10.0f, x);
}
inline float sim_logf(float x) {
  return logf(x);
}
inline float sim_log2f(float x) {
  return log2f(x);
}
inline float sim_log10f(float x) {
  return log10f(x);
}
inline float sim_sinf(float x) {
  return sinf(x);
}
inline float sim_cosf(float x) {
  return cosf(x);
}
inline float sim_tanf(float x) {
  return tanf(x);
}
inline float sim_powf(float x, float y) {
  return powf(x, y);
}

inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / sqrt(x);
}
inline float rcbrtf(float x) {
  return 1.0f / cbrtf(x);
}
inline float fdividef(float x, float y) {
  return x / y;
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __saturatef(float x) {
  return x > 0.0f ? std::min(x, 1.0f) : 0.0f;
}
inline void __sincosf(float x, float* s, float* c) {
  *s = sinf(x), *c = cosf(x);
}
inline float sinpif(float x) {
  return static_cast<float>(sin(3.14159265358979323846 * fmod(x, 2.0)));
}
inline float cospif(float x) {
  return static_cast<float>(cos(3.14159265358979323846 * fmod(x, 2.0)));
}
inline void sincospif(float x, float* s, float* c) {
  *s = sinpif(x), *c = cospif(x);
}
inline float normcdff(float x) {
  return 0.5f * erfcf(-x * 0.70710678f);
}

inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fsub_rn(float x, float y) {
  return x - y;
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __fmaf_rn(float x, float y, float z) {
  return fmaf(x, y, z);
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
inline float __frsqrt_rn(float x) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(x)));
}

inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return std::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return std::bit_cast<double>(x);
}

namespace sim::detail {
// Conversions saturate, and NaN becomes 0.
template <class To>
To to_integer(double x) {
  if (std::isnan(x)) return 0;
  constexpr double kLow = static_cast<double>(std::numeric_limits<To>::min());
  constexpr double kHigh = static_cast<double>(std::numeric_limits<To>::max());
  return x <= kLow ? std::numeric_limits<To>::min()
                   : (x >= kHigh ? std::numeric_limits<To>::max() : static_cast<To>(x));
}
}  // namespace sim::detail
inline int __float2int_rn(float x) {
  return sim::detail::to_integer<int>(nearbyint(x));
}
inline int __float2int_rz(float x) {
  return sim::detail::to_integer<int>(trunc(x));
}
inline int __float2int_rd(float x) {
  return sim::detail::to_integer<int>(floor(x));
}
inline int __float2int_ru(float x) {
  return sim::detail::to_integer<int>(ceil(x));
}
inline unsigned __float2uint_rn(float x) {
  return sim::detail::to_integer<unsigned>(nearbyint(x));
}
inline unsigned __float2uint_rz(float x) {
  return sim::detail::to_integer<unsigned>(trunc(x));
}
inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}
inline float __uint2float_rn(unsigned x) {
  return static_cast<float>(x);
}
inline float __ll2float_rn(long long x) {
  return static_cast<float>(x);
}
inline float __ull2float_rn(unsigned long long x) {
  return static_cast<float>(x);
}
inline float __double2float_rn(double x) {
  return static_cast<float>(x);
}

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(x) * y >> 32);
}
inline int __mulhi(int x, int y) {
  return static_cast<int>(static_cast<std::int64_t>(x) * y >> 32);
}
__extension__ typedef unsigned __int128 sim_uint128;
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>(static_cast<sim_uint128>(x) * y >> 64);
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
  const std::uint64_t word = static_cast<std::uint64_t>(hi) << 32 | lo;
  return static_cast<unsigned>(word << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
  const std::uint64_t word = static_cast<std::uint64_t>(hi) << 32 | lo;
  return static_cast<unsigned>(word >> (shift & 31u));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> (4 * i) & 15u;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (nibble & 7u))) & 255u;
    if (nibble & 8u) byte = byte & 128u ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
}

// Cached loads and stores are plain ones.
#define SIM_LOAD(name)    \
  template <class T>      \
  T name(const T* from) { \
    return *from;         \
  }
#define SIM_STORE(name)                             \
  template <class T>                                \
  void name(T* to, std::type_identity_t<T> value) { \
    *to = value;                                    \
  }
SIM_LOAD(__ldg)
SIM_LOAD(__ldca)
SIM_LOAD(__ldcg)
SIM_LOAD(__ldcs)
SIM_LOAD(__ldlu)
SIM_LOAD(__ldcv)
SIM_STORE(__stcg)
SIM_STORE(__stcs)
SIM_STORE(__stwb)
SIM_STORE(__stwt)
#undef SIM_LOAD
#undef SIM_STORE

inline __nv_bfloat16 __hfma(__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z) {
  return __float2bfloat16_rn(fmaf(__bfloat162float(x), __bfloat162float(y), __bfloat162float(z)));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 x, __nv_bfloat162 y, __nv_bfloat162 z) {
  return __nv_bfloat162(__hfma(x.x, y.x, z.x), __hfma(x.y, y.y, z.y));
}

// CUDA's global min and max.
#define SIM_MIN_MAX(type)              \
  constexpr type min(type x, type y) { \
    return y < x ? y : x;              \
  }                                    \
  constexpr type max(type x, type y) { \
    return x < y ? y : x;              \
  }
SIM_MIN_MAX(int)
SIM_MIN_MAX(unsigned)
SIM_MIN_MAX(long)
SIM_MIN_MAX(unsigned long)
SIM_MIN_MAX(long long)
SIM_MIN_MAX(unsigned long long)
#undef SIM_MIN_MAX
inline float min(float x, float y) {
  return fminf(x, y);
}
inline float max(float x, float y) {
  return fmaxf(x, y);
}
inline double min(double x, double y) {
  return fmin(x, y);
}
inline double max(double x, double y) {
  return fmax(x, y);
}
