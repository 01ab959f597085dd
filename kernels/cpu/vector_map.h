// Elementwise work on whole vectors with the tail handled. Included once per Highway target.
#if defined(ONPA_KERNELS_CPU_VECTOR_MAP_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_VECTOR_MAP_H_
#undef ONPA_KERNELS_CPU_VECTOR_MAP_H_
#else
#define ONPA_KERNELS_CPU_VECTOR_MAP_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Copies up to a vector of elements into a whole one, the rest zeros.
template <class D, class T>
HWY_ATTR HWY_INLINE hn::Vec<D> load_some(D d, const T* from, std::int64_t count) {
  HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
  std::copy_n(from, count, lanes);
  return hn::Load(d, lanes);
}

// y[i] (+)= f(inputs[i]...) for i < n; f works on vectors. y may be an input where it is assigned.
template <class T, class F, class... Inputs>
HWY_ATTR HWY_INLINE void map_vectors(std::int64_t n, T* y, bool accumulate, const F& f,
                                     const Inputs*... inputs) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = f(hn::LoadU(d, inputs + i)...);
    hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, y + i), v) : v, d, y + i);
  }
  const std::int64_t left = n - i;
  if (left == 0) return;
  HWY_ALIGN T tail[hn::MaxLanes(d)];
  hn::Store(f(load_some(d, inputs + i, left)...), d, tail);
  for (std::int64_t j = 0; j < left; ++j) y[i + j] = accumulate ? y[i + j] + tail[j] : tail[j];
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // ONPA_KERNELS_CPU_VECTOR_MAP_H_
