// The pieces that the float attention kernels share: a register-tiled product of small packed
// blocks, exp2, packing and scratch. Included once per Highway target.
#if defined(ONPA_KERNELS_CPU_ATTENTION_TILE_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_ATTENTION_TILE_H_
#undef ONPA_KERNELS_CPU_ATTENTION_TILE_H_
#else
#define ONPA_KERNELS_CPU_ATTENTION_TILE_H_
#endif

#include <algorithm>
#include <cstdint>

#include <hwy/aligned_allocator.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Register tile: kTileRows x 2 vectors of accumulators, which with two vectors of b and one of a
// fill the register file (16 registers, or 32 with AVX-512).
#if HWY_TARGET <= HWY_AVX3
constexpr std::int64_t kTileRows = 12;
#else
constexpr std::int64_t kTileRows = 6;
#endif
// Side of a block of queries or keys: a multiple of any tile's rows (6, 12) and columns (8 to 32).
constexpr std::int64_t kBlock = 96;

inline std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(D()));
}
constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
// Row stride of a packed block with `cols` columns: an odd number of cache lines, so that walking
// down a column visits all sets of the cache.
constexpr std::int64_t packed_stride(std::int64_t cols) {
  return round_up(cols, 32) + 16;
}

// c (kTileRows x kVectors vectors) (+)= sum over k < depth of a[r * row_step + k * k_step] *
// b[k * ldb + column].
template <int kVectors, bool kAdd>
HWY_ATTR HWY_INLINE void multiply_tile(const float* HWY_RESTRICT a, std::int64_t row_step,
                                       std::int64_t k_step, const float* HWY_RESTRICT b,
                                       std::int64_t ldb, std::int64_t depth, float* HWY_RESTRICT c,
                                       std::int64_t ldc) {
  const D d;
  const std::int64_t n = lanes();
  V sum[kTileRows][kVectors];
#pragma GCC unroll 12
  for (std::int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = kAdd ? hn::Load(d, c + r * ldc + v * n) : hn::Zero(d);
    }
  }
  for (std::int64_t k = 0; k < depth; ++k, a += k_step, b += ldb) {
    V column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = hn::Load(d, b + v * n);
#pragma GCC unroll 12
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const V row = hn::Set(d, a[r * row_step]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(row, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 12
  for (std::int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[r][v], d, c + r * ldc + v * n);
  }
}

// One operand of `multiply`: element (r, k) lies at data[r * row_step + k * k_step].
struct Operand {
  const float* data;
  std::int64_t row_step, k_step;
};

// c (rows x cols) (+)= a b. `rows` is rounded up to whole tiles and `cols` to whole vectors, which
// a, b and c must have room for. b and c are aligned, strides multiples of a vector.
template <bool kAdd>
HWY_ATTR void multiply(std::int64_t rows, std::int64_t cols, std::int64_t depth, const Operand& a,
                       const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  const std::int64_t n = lanes();
  std::int64_t j = 0;
  for (; j + n < cols; j += 2 * n) {
    for (std::int64_t i = 0; i < rows; i += kTileRows) {
      multiply_tile<2, kAdd>(a.data + i * a.row_step, a.row_step, a.k_step, b + j, ldb, depth,
                             c + i * ldc + j, ldc);
    }
  }
  for (std::int64_t i = 0; j < cols && i < rows; i += kTileRows) {
    multiply_tile<1, kAdd>(a.data + i * a.row_step, a.row_step, a.k_step, b + j, ldb, depth,
                           c + i * ldc + j, ldc);
  }
}

// 2^x, relative error 8e-8; 0 below -126, where the result would be subnormal; x <= 127; NaN stays
// NaN, which Max would not promise on every target. Adding the rounder leaves round(x) plus the
// exponent's bias in the low bits of the sum, and a degree-6 minimax polynomial on [-0.5, 0.5] does
// the rest.
HWY_ATTR HWY_INLINE V exp2(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V rounder = hn::Set(d, 0x1.8p23f + 127.0f);
  const V shifted = hn::Add(x, rounder);
  const V f = hn::Sub(x, hn::Sub(shifted, rounder));
  V p = hn::Set(d, 0.000153458124f);
  p = hn::MulAdd(p, f, hn::Set(d, 0.00133999309f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.00961848907f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555032864f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240226462f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693147182f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), hn::Mul(p, power));
}

// Copies `rows` rows of `cols` floats times `scale`; clears the rest of each row up to a whole
// vector and the rows up to `padded_rows`.
HWY_ATTR inline void pack_rows(const float* from, std::int64_t stride, std::int64_t rows,
                               std::int64_t padded_rows, std::int64_t cols, float scale, float* to,
                               std::int64_t ld) {
  const D d;
  const std::int64_t n = lanes(), padded = round_up(cols, n);
  const V factor = hn::Set(d, scale);
  for (std::int64_t r = 0; r < padded_rows; ++r, to += ld) {
    std::int64_t c = 0;
    if (r < rows) {
      const float* row = from + r * stride;
      for (; c + n <= cols; c += n) hn::Store(hn::Mul(hn::LoadU(d, row + c), factor), d, to + c);
      for (; c < cols; ++c) to[c] = row[c] * scale;
    }
    std::fill(to + c, to + padded, 0.0f);
  }
}

#if HWY_TARGET != HWY_SCALAR

// A vector whose block i of four lanes is four floats from row 4 * i.
template <class DN>
HWY_ATTR HWY_INLINE hn::Vec<DN> load_blocks(DN d, const float* from, std::int64_t stride) {
  if constexpr (hn::MaxLanes(d) <= 4) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<DN> dh;
    const auto half = static_cast<std::int64_t>(hn::MaxLanes(dh));
    return hn::Combine(d, load_blocks(dh, from + half * stride, stride),
                       load_blocks(dh, from, stride));
  }
}

// Transposes a vector's worth of rows by four columns: 4 x 4 within each block of four lanes.
HWY_ATTR HWY_INLINE void transpose_four(const float* from, std::int64_t stride, float* to,
                                        std::int64_t ld) {
  const D d;
  const V a0 = load_blocks(d, from, stride), a1 = load_blocks(d, from + stride, stride);
  const V a2 = load_blocks(d, from + 2 * stride, stride);
  const V a3 = load_blocks(d, from + 3 * stride, stride);
  const V low02 = hn::InterleaveLower(d, a0, a2), high02 = hn::InterleaveUpper(d, a0, a2);
  const V low13 = hn::InterleaveLower(d, a1, a3), high13 = hn::InterleaveUpper(d, a1, a3);
  hn::Store(hn::InterleaveLower(d, low02, low13), d, to);
  hn::Store(hn::InterleaveUpper(d, low02, low13), d, to + ld);
  hn::Store(hn::InterleaveLower(d, high02, high13), d, to + 2 * ld);
  hn::Store(hn::InterleaveUpper(d, high02, high13), d, to + 3 * ld);
}

#else

HWY_INLINE void transpose_four(const float* from, std::int64_t, float* to, std::int64_t ld) {
  for (int c = 0; c < 4; ++c) to[c * ld] = from[c];
}

#endif

// Packs the transpose: to[c * ld + r] = from[r * stride + c], columns of `to` from `rows` up to a
// whole vector cleared.
HWY_ATTR inline void pack_transposed(const float* from, std::int64_t stride, std::int64_t rows,
                                     std::int64_t cols, float* to, std::int64_t ld) {
  const std::int64_t n = lanes(), whole = rows / n * n;
  for (std::int64_t r = 0; r < whole; r += n) {
    const float* row = from + r * stride;
    std::int64_t c = 0;
    for (; c + 4 <= cols; c += 4) transpose_four(row + c, stride, to + c * ld + r, ld);
    for (; c < cols; ++c) {
      for (std::int64_t i = 0; i < n; ++i) to[c * ld + r + i] = row[i * stride + c];
    }
  }
  const std::int64_t padded = round_up(rows, n);
  for (std::int64_t c = 0; c < cols; ++c) {
    for (std::int64_t r = whole; r < padded; ++r) {
      to[c * ld + r] = r < rows ? from[r * stride + c] : 0.0f;
    }
  }
}

// Aligned memory that a thread keeps between calls, handed out in pieces.
class Scratch {
 public:
  // Makes room for `floats` and forgets earlier pieces.
  void reset(std::int64_t floats) {
    floats += 16 * 32;  // each piece is rounded up
    if (floats > capacity_) {
      memory_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(floats));
      capacity_ = floats;
    }
    used_ = 0;
  }
  float* take(std::int64_t floats) {
    float* piece = memory_.get() + used_;
    used_ += round_up(floats, 16);
    return piece;
  }

 private:
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  std::int64_t capacity_ = 0, used_ = 0;
};

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // ONPA_KERNELS_CPU_ATTENTION_TILE_H_
