// The inner parts of a matrix product on vectors: packing of both operands, the register tile and
// the epilogue. Included once per Highway target.
#if defined(ONPA_KERNELS_CPU_GEMM_TILE_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_GEMM_TILE_H_
#undef ONPA_KERNELS_CPU_GEMM_TILE_H_
#else
#define ONPA_KERNELS_CPU_GEMM_TILE_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/gelu-inl.h"
#include "kernels/cpu/gemm_block.h"
#include "kernels/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Register tile: kTileRows x 2 vectors of sums, which with two vectors of b and one of a fill the
// register file (16 registers, or 32 with AVX-512).
#if HWY_TARGET <= HWY_AVX3
constexpr std::int64_t kTileRows = 12;
#else
constexpr std::int64_t kTileRows = 6;
#endif
static_assert(kRowUnit % kTileRows == 0);
template <class T>
constexpr std::int64_t kTileCols = 2 *
                                   static_cast<std::int64_t>(hn::MaxLanes(hn::ScalableTag<T>()));

// to[k * kWidth + r] = from[r * stride + k] for kWidth rows.
template <std::int64_t kWidth, class T>
HWY_ATTR void pack_transposed(const T* from, std::int64_t stride, std::int64_t depth, T* to) {
  std::int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, float> && kWidth >= 4) {
    const hn::FixedTag<float, 4> d;
    for (; k + 4 <= depth; k += 4) {
      float* out = to + k * kWidth;
      for (std::int64_t step = 0; step < kWidth; step += 4) {
        // The last four rows overlap the ones before where the width is no multiple of four.
        const std::int64_t r = std::min(step, kWidth - 4);
        const float* in = from + r * stride + k;
        const auto a0 = hn::LoadU(d, in), a1 = hn::LoadU(d, in + stride);
        const auto a2 = hn::LoadU(d, in + 2 * stride), a3 = hn::LoadU(d, in + 3 * stride);
        const auto low02 = hn::InterleaveLower(d, a0, a2), high02 = hn::InterleaveUpper(d, a0, a2);
        const auto low13 = hn::InterleaveLower(d, a1, a3), high13 = hn::InterleaveUpper(d, a1, a3);
        hn::StoreU(hn::InterleaveLower(d, low02, low13), d, out + r);
        hn::StoreU(hn::InterleaveUpper(d, low02, low13), d, out + kWidth + r);
        hn::StoreU(hn::InterleaveLower(d, high02, high13), d, out + 2 * kWidth + r);
        hn::StoreU(hn::InterleaveUpper(d, high02, high13), d, out + 3 * kWidth + r);
      }
    }
  }
#endif
  for (; k < depth; ++k) {
    for (std::int64_t r = 0; r < kWidth; ++r) to[k * kWidth + r] = from[r * stride + k];
  }
}

// Packs `count` lines of an operand into panels of kWidth, k-major, the last panel filled up with
// zeros: line r at depth k lies at from[r * stride + k], or at from[k * stride + r] if `k_major`.
// Panels are `depth` * kWidth elements apart.
template <std::int64_t kWidth, class T>
HWY_ATTR void pack_panels(const T* from, std::int64_t stride, bool k_major, std::int64_t count,
                          std::int64_t depth, T* to) {
  const std::int64_t whole = count / kWidth * kWidth, left = count - whole;
  if (k_major) {
    // Depth by depth: what is read lies together.
    for (std::int64_t k = 0; k < depth; ++k) {
      const T* line = from + k * stride;
      T* out = to + k * kWidth;
      for (std::int64_t r = 0; r < whole; r += kWidth) {
        std::copy_n(line + r, kWidth, out + r * depth);
      }
    }
  } else {
    for (std::int64_t r = 0; r < whole; r += kWidth) {
      pack_transposed<kWidth>(from + r * stride, stride, depth, to + r * depth);
    }
  }
  for (std::int64_t k = 0; left > 0 && k < depth; ++k) {
    T* out = to + whole * depth + k * kWidth;
    for (std::int64_t i = 0; i < left; ++i) {
      out[i] = k_major ? from[k * stride + whole + i] : from[(whole + i) * stride + k];
    }
    std::fill(out + left, out + kWidth, T{0});
  }
}

// sums (kTileRows x 2 vectors, row stride ld) (+)= a b, packed, over `depth`.
template <bool kAdd, class T>
HWY_ATTR HWY_INLINE void multiply_tile(const T* HWY_RESTRICT a, const T* HWY_RESTRICT b,
                                       std::int64_t depth, T* HWY_RESTRICT sums, std::int64_t ld) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr std::int64_t kLanes = kTileCols<T> / 2;
  V sum[kTileRows][2];
#pragma GCC unroll 12
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    sum[r][0] = sum[r][1] = hn::Zero(d);
    // The sums are long in L3 by now; they arrive while the products are worked out.
    hwy::Prefetch(sums + r * ld);
    hwy::Prefetch(sums + r * ld + kTileCols<T> - 1);
  }
  for (std::int64_t k = 0; k < depth; ++k, a += kTileRows, b += kTileCols<T>) {
    const V b0 = hn::Load(d, b), b1 = hn::Load(d, b + kLanes);
#pragma GCC unroll 12
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const V row = hn::Set(d, a[r]);
      sum[r][0] = hn::MulAdd(row, b0, sum[r][0]);
      sum[r][1] = hn::MulAdd(row, b1, sum[r][1]);
    }
  }
#pragma GCC unroll 12
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    T* to = sums + r * ld;
    if (kAdd) {
      sum[r][0] = hn::Add(sum[r][0], hn::LoadU(d, to));
      sum[r][1] = hn::Add(sum[r][1], hn::LoadU(d, to + kLanes));
    }
    hn::StoreU(sum[r][0], d, to);
    hn::StoreU(sum[r][1], d, to + kLanes);
  }
}

// A tile that reaches over the edge of c goes through a buffer.
template <class T>
HWY_ATTR void multiply_edge(const T* a, const T* b, std::int64_t depth, bool add, T* c,
                            std::int64_t ldc, std::int64_t rows, std::int64_t cols) {
  HWY_ALIGN T sums[kTileRows * kTileCols<T>];
  multiply_tile<false>(a, b, depth, sums, kTileCols<T>);
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = sums + r * kTileCols<T>;
    for (std::int64_t j = 0; j < cols; ++j) c[r * ldc + j] = from[j] + (add ? c[r * ldc + j] : 0);
  }
}

template <class D>
HWY_ATTR HWY_INLINE hn::Vec<D> gelu(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    return hn::Mul(x, normal_distribution(d, x).cdf);
  } else {
    HWY_ALIGN double lanes[hn::MaxLanes(d)];
    hn::Store(x, d, lanes);
    for (double& v : lanes) v = v * 0.5 * std::erfc(-v * std::sqrt(0.5));
    return hn::Load(d, lanes);
  }
}

// Bias, activation and residual of up to a vector of sums of one row; `first` is their place in c.
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
HWY_ATTR void finish_rows(const Gemm<T>& g, std::int64_t row, std::int64_t rows, std::int64_t col,
                          std::int64_t cols) {
  const hn::ScalableTag<T> d;
  constexpr std::int64_t kLanes = kTileCols<T> / 2;
  for (std::int64_t i = row; i < row + rows; ++i) {
    const std::int64_t start = i * g.ldc + col;
    std::int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) {
      const std::int64_t at = start + j;
      hn::StoreU(
          finish_vector<kActivation>(d, hn::LoadU(d, g.c + at), g.bias ? g.bias + col + j : nullptr,
                                     g.pre_activation ? g.pre_activation + at : nullptr,
                                     g.residual ? g.residual + at : nullptr),
          d, g.c + at);
    }
    if (j == cols) continue;
    const std::int64_t at = start + j, left = cols - j;
    HWY_ALIGN T sums[kLanes] = {}, bias[kLanes] = {}, pre[kLanes], residual[kLanes] = {};
    std::copy_n(g.c + at, left, sums);
    if (g.bias) std::copy_n(g.bias + col + j, left, bias);
    if (g.residual) std::copy_n(g.residual + at, left, residual);
    hn::Store(finish_vector<kActivation>(d, hn::Load(d, sums), g.bias ? bias : nullptr, pre,
                                         g.residual ? residual : nullptr),
              d, sums);
    std::copy_n(sums, left, g.c + at);
    if (g.pre_activation) std::copy_n(pre, left, g.pre_activation + at);
  }
}

template <class T>
HWY_ATTR void finish(const Gemm<T>& g, std::int64_t row, std::int64_t rows, std::int64_t col,
                     std::int64_t cols) {
  switch (g.activation) {
    case Activation::kNone:
      if (g.bias || g.pre_activation || g.residual) {
        finish_rows<Activation::kNone>(g, row, rows, col, cols);
      }
      break;
    case Activation::kRelu:
      finish_rows<Activation::kRelu>(g, row, rows, col, cols);
      break;
    case Activation::kGelu:
      finish_rows<Activation::kGelu>(g, row, rows, col, cols);
      break;
  }
}

// Columns [col, col + cols) of op(b) at depths [k, k + depth).
template <class T>
HWY_ATTR void pack_columns(const Gemm<T>& g, std::int64_t col, std::int64_t cols, std::int64_t k,
                           std::int64_t depth, T* to) {
  const bool k_major = g.trans_b == Trans::kNo;
  const T* from = k_major ? g.b + k * g.ldb + col : g.b + col * g.ldb + k;
  pack_panels<kTileCols<T>>(from, g.ldb, k_major, cols, depth, to);
}

// One block of c: the share of depths [k, k + depth), and the epilogue if they are the last.
// `columns` is what pack_columns made of the block's columns; `rows_scratch` holds packed rows.
template <class T>
HWY_ATTR void multiply_block(const Gemm<T>& g, const GemmBlock& block, const T* columns,
                             T* rows_scratch) {
  const bool k_major = g.trans_a == Trans::kYes;
  const std::int64_t end = block.k + block.depth;
  for (std::int64_t k = block.k; k == block.k || k < end; k += block.depth_step) {
    const std::int64_t depth = std::min(block.depth_step, end - k);
    const T* from = k_major ? g.a + k * g.lda + block.row : g.a + block.row * g.lda + k;
    pack_panels<kTileRows>(from, g.lda, k_major, block.rows, depth, rows_scratch);
    const bool add = k > 0 || g.beta != 0, last = k + depth == g.k;
    for (std::int64_t j = 0; j < block.cols; j += kTileCols<T>) {
      const std::int64_t cols = std::min(kTileCols<T>, block.cols - j);
      const T* b = columns + j * block.depth + (k - block.k) * kTileCols<T>;
      T* c = g.c + block.row * g.ldc + block.col + j;
      for (std::int64_t i = 0; i < block.rows; i += kTileRows, c += kTileRows * g.ldc) {
        const std::int64_t rows = std::min(kTileRows, block.rows - i);
        const T* a = rows_scratch + i * depth;
        if (rows < kTileRows || cols < kTileCols<T>) {
          multiply_edge(a, b, depth, add, c, g.ldc, rows, cols);
        } else if (add) {
          multiply_tile<true>(a, b, depth, c, g.ldc);
        } else {
          multiply_tile<false>(a, b, depth, c, g.ldc);
        }
      }
      if (last) finish(g, block.row, block.rows, block.col + j, cols);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // ONPA_KERNELS_CPU_GEMM_TILE_H_
