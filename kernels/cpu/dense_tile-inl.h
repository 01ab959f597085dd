// Register tiles of the products in a dense training step, f32. Per-target include: no include
// guard of its own.
#if defined(ONPA_KERNELS_CPU_DENSE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_DENSE_TILE_INL_H_
#undef ONPA_KERNELS_CPU_DENSE_TILE_INL_H_
#else
#define ONPA_KERNELS_CPU_DENSE_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/dense_panels.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using TileTag = hn::CappedTag<float, kPanel>;
using TileVector = hn::Vec<TileTag>;
constexpr int kTileVectors = kPanel / static_cast<int>(hn::MaxLanes(TileTag()));
// Twelve accumulators: enough to hide the latency of multiply-add, and with what feeds them still
// within sixteen registers.
constexpr int kTileRows = kTileVectors > 12 ? 1 : 12 / kTileVectors;

/// A panel's width of sums for each of kRows rows.
template <int kRows>
struct Tile {
  TileVector sum[kRows][kTileVectors];

  HWY_INLINE void start(const float* row) {
    const TileTag d;
#pragma GCC unroll 16
    for (int v = 0; v < kTileVectors; ++v) {
      const TileVector first =
          row != nullptr ? hn::LoadU(d, row + v * hn::MaxLanes(d)) : hn::Zero(d);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) sum[r][v] = first;
    }
  }
  /// sum(r, :) += sum over k < n of a[r kRowStride + k kStepStride] b(k, :), kUnroll steps a round.
  template <int kRowStride, int kStepStride, int kUnroll>
  HWY_INLINE void add(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::int64_t n) {
    std::int64_t k = 0;
    for (; k + kUnroll <= n; k += kUnroll, a += kUnroll * kStepStride, b += kUnroll * kPanel) {
#pragma GCC unroll 16
      for (int u = 0; u < kUnroll; ++u) add_step<kRowStride>(a + u * kStepStride, b + u * kPanel);
    }
    for (; k < n; ++k, a += kStepStride, b += kPanel) add_step<kRowStride>(a, b);
  }
  template <int kRowStride>
  HWY_INLINE void add_step(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b) {
    const TileTag d;
    TileVector right[kTileVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kTileVectors; ++v) {
      right[v] = hn::LoadU(d, b + v * static_cast<int>(hn::MaxLanes(d)));
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const TileVector left = hn::Set(d, a[r * kRowStride]);
#pragma GCC unroll 16
      for (int v = 0; v < kTileVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
  /// sum(r, :) of the rows of 16.
  HWY_INLINE void load(const float* rows) {
    const TileTag d;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kTileVectors; ++v) {
        sum[r][v] = hn::LoadU(d, rows + r * kPanel + v * static_cast<int>(hn::MaxLanes(d)));
      }
    }
  }
  /// rows(r, :) = value(sum(r, :), place from `rows`), of rows of 16.
  template <class Value>
  HWY_INLINE void store(float* rows, const Value& value) const {
    const TileTag d;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kTileVectors; ++v) {
        const int at = r * kPanel + v * static_cast<int>(hn::MaxLanes(d));
        hn::StoreU(value(sum[r][v], at), d, rows + at);
      }
    }
  }
};

/// What becomes of a product before it is stored.
enum class TileEnd {
  kPlain,
  kRelu,           // a NaN stays one
  kTimes,          // times `other`
  kWherePositive,  // times `scale` where `other` is positive, else 0
};

// Not inlined: what the caller keeps in registers must not drive sums out of them.

/// y(r, :) = start(:) + x(r, :) b, put through kEnd, for kRows rows of a chunk and `width` features
/// in panels: `x` is the first row in the first panel, `b` (width, 16), `start` (16) or null, `y`
/// and `other` (kRows, 16); they may be the same.
template <int kRows, TileEnd kEnd>
HWY_NOINLINE void multiply_rows(const float* x, std::int64_t width, const float* b,
                                const float* start, float* y, const float* other, float scale) {
  Tile<kRows> tile;
  tile.start(start);
  for (; width >= kPanel; width -= kPanel) {
    tile.template add<kPanel, 1, 1>(x, b, kPanel);
    x += kChunkPanel;
    b += kPanel * kPanel;
  }
  if (width > 0) tile.template add<kPanel, 1, 1>(x, b, width);
  const TileTag d;
  const TileVector zero = hn::Zero(d), factor = hn::Set(d, scale);
  tile.store(y, [&](TileVector sum, int at) HWY_ATTR {
    if constexpr (kEnd == TileEnd::kRelu) return hn::IfThenZeroElse(hn::Lt(sum, zero), sum);
    if constexpr (kEnd == TileEnd::kTimes) return hn::Mul(sum, hn::LoadU(d, other + at));
    if constexpr (kEnd == TileEnd::kWherePositive) {
      return hn::IfThenElseZero(hn::Gt(hn::LoadU(d, other + at), zero), hn::Mul(sum, factor));
    }
    return sum;
  });
}

/// y(r, :) = sum over n rows of left(row, r) right(row, :), all in rows of 16; added to y unless
/// `from_zero`.
template <int kRows>
HWY_NOINLINE void multiply_columns(const float* left, const float* right, std::int64_t n, float* y,
                                   bool from_zero) {
  Tile<kRows> tile;
  if (from_zero) {
    tile.start(nullptr);
  } else {
    tile.load(y);
  }
  tile.template add<1, kPanel, 4>(left, right, n);
  tile.store(y, [](TileVector sum, int) HWY_ATTR { return sum; });
}

/// Calls body.operator()<rows>(first) so that all of [begin, end) is covered, kTileRows at a time.
template <class Body>
HWY_INLINE void for_tile_rows(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t at = begin;
  for (; at + kTileRows <= end; at += kTileRows) body.template operator()<kTileRows>(at);
  for (; at + 4 <= end; at += 4) body.template operator()<4>(at);
  for (; at < end; ++at) body.template operator()<1>(at);
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
