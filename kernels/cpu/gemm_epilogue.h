// What follows a matrix product, on vectors: bias, activation, residual. Included once per Highway
// target.
#if defined(ONPA_KERNELS_CPU_GEMM_EPILOGUE_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_GEMM_EPILOGUE_H_
#undef ONPA_KERNELS_CPU_GEMM_EPILOGUE_H_
#else
#define ONPA_KERNELS_CPU_GEMM_EPILOGUE_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/cpu/gelu-inl.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_ATTR HWY_INLINE hn::Vec<D> gelu(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    return gelu_of(d, x);
  } else {
    HWY_ALIGN double lanes[hn::MaxLanes(d)];
    hn::Store(x, d, lanes);
    for (double& v : lanes) v = v * 0.5 * std::erfc(-v * std::sqrt(0.5));
    return hn::Load(d, lanes);
  }
}

// Bias, activation and residual of up to a vector of sums of one row.
template <Activation kActivation, class T, class D, class V>
HWY_ATTR HWY_INLINE V finish_vector(D d, V sums, const T* bias, T* pre_activation,
                                    const T* residual) {
  if (bias != nullptr) sums = hn::Add(sums, hn::LoadU(d, bias));
  if (pre_activation != nullptr) hn::StoreU(sums, d, pre_activation);
  if constexpr (kActivation == Activation::kRelu) {
    // Not Max: a NaN must stay one.
    sums = hn::IfThenZeroElse(hn::Lt(sums, hn::Zero(d)), sums);
  } else if constexpr (kActivation == Activation::kGelu) {
    sums = gelu(d, sums);
  }
  if (residual != nullptr) sums = hn::Add(sums, hn::LoadU(d, residual));
  return sums;
}

template <Activation kActivation, class T>
HWY_ATTR void finish_rows(const Gemm<T>& g, const GemmTile& tile) {
  const hn::ScalableTag<T> d;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  for (std::int64_t i = tile.row; i < tile.row + tile.rows; ++i) {
    const std::int64_t start = i * g.ldc + tile.col;
    std::int64_t j = 0;
    for (; j + kLanes <= tile.cols; j += kLanes) {
      const std::int64_t at = start + j;
      hn::StoreU(finish_vector<kActivation>(d, hn::LoadU(d, g.c + at),
                                            g.bias ? g.bias + tile.col + j : nullptr,
                                            g.pre_activation ? g.pre_activation + at : nullptr,
                                            g.residual ? g.residual + at : nullptr),
                 d, g.c + at);
    }
    if (j == tile.cols) continue;
    const std::int64_t at = start + j, left = tile.cols - j;
    HWY_ALIGN T sums[kLanes] = {}, bias[kLanes] = {}, pre[kLanes], residual[kLanes] = {};
    std::copy_n(g.c + at, left, sums);
    if (g.bias) std::copy_n(g.bias + tile.col + j, left, bias);
    if (g.residual) std::copy_n(g.residual + at, left, residual);
    hn::Store(finish_vector<kActivation>(d, hn::Load(d, sums), g.bias ? bias : nullptr, pre,
                                         g.residual ? residual : nullptr),
              d, sums);
    std::copy_n(sums, left, g.c + at);
    if (g.pre_activation) std::copy_n(pre, left, g.pre_activation + at);
  }
}

template <class T>
HWY_ATTR void finish(const Gemm<T>& g, const GemmTile& tile) {
  switch (g.activation) {
    case Activation::kNone:
      if (g.bias || g.pre_activation || g.residual) finish_rows<Activation::kNone>(g, tile);
      break;
    case Activation::kRelu:
      finish_rows<Activation::kRelu>(g, tile);
      break;
    case Activation::kGelu:
      finish_rows<Activation::kGelu>(g, tile);
      break;
  }
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // ONPA_KERNELS_CPU_GEMM_EPILOGUE_H_
