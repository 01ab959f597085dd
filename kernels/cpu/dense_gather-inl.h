// The rows of a batch in the order of an epoch, and their copy into panels. Per-target include: no
// include guard of its own.
#if defined(ONPA_KERNELS_CPU_DENSE_GATHER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ONPA_KERNELS_CPU_DENSE_GATHER_INL_H_
#undef ONPA_KERNELS_CPU_DENSE_GATHER_INL_H_
#else
#define ONPA_KERNELS_CPU_DENSE_GATHER_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/dense_panels.h"
#include "kernels/cpu/dense_tile-inl.h"
#include "kernels/shuffle.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

using WordTag = hn::CappedTag<std::uint32_t, kPanel>;
using WordVector = hn::Vec<WordTag>;

/// One pass of ShuffledOrder's network.
HWY_INLINE WordVector shuffle_once(const ShuffledOrder& order, WordVector value) {
  const WordTag d;
  const auto scramble = [&](WordVector v) HWY_ATTR {
    v = hn::Mul(hn::Xor(v, hn::ShiftRight<16>(v)), hn::Set(d, 0x85EBCA6Bu));
    v = hn::Mul(hn::Xor(v, hn::ShiftRight<13>(v)), hn::Set(d, 0xC2B2AE35u));
    return hn::Xor(v, hn::ShiftRight<16>(v));
  };
  const WordVector left_mask = hn::Set(d, order.left_mask()),
                   right_mask = hn::Set(d, order.right_mask());
  WordVector left = hn::ShiftRightSame(value, order.right_bits()),
             right = hn::And(value, right_mask);
  for (int round = 0; round < ShuffledOrder::kRounds; round += 2) {
    const WordVector key = hn::Set(d, order.round_key(round)),
                     next_key = hn::Set(d, order.round_key(round + 1));
    left = hn::Xor(left, hn::And(scramble(hn::Add(right, key)), left_mask));
    right = hn::Xor(right, hn::And(scramble(hn::Add(left, next_key)), right_mask));
  }
  return hn::Or(hn::ShiftLeftSame(left, order.right_bits()), right);
}

/// Where the rows of a chunk lie in the data.
class Places {
 public:
  explicit Places(const DenseStep& a)
      : a_(a), order_(a.seed, a.state->epoch, static_cast<std::uint32_t>(a.rows)) {}

  /// Of `count` rows, 64 at most, from place `first` of the batch; `rows` has place for 64. The
  /// rows of a large data set lie anywhere: all are asked for.
  void find(std::int64_t first, std::int64_t count, std::uint32_t* rows) const {
    const auto position =
        static_cast<std::uint32_t>(a_.state->position) + static_cast<std::uint32_t>(first);
    HWY_ALIGN std::uint32_t open[kDenseChunk];
    for (std::uint32_t i = 0; i < kDenseChunk; ++i) rows[i] = open[i] = position + i;
    if (a_.shuffle) shuffle(count, open, rows);
    const std::int64_t inputs = a_.layer[0].inputs;
    for (std::int64_t i = 0; i < count; ++i) {
      const float* x = a_.x + rows[i] * inputs;
      hwy::Prefetch(x);
      hwy::Prefetch(x + inputs - 1);
      hwy::Prefetch(a_.y + rows[i]);
    }
  }

 private:
  // rows[i] = order(open[i]). All go through the network together; those that it sends behind the
  // last row, fewer than half, go again.
  void shuffle(std::int64_t count, std::uint32_t* HWY_RESTRICT open,
               std::uint32_t* HWY_RESTRICT rows) const {
    const WordTag d;
    std::uint32_t place[kDenseChunk];
    for (std::uint32_t i = 0; i < kDenseChunk; ++i) place[i] = i;
    while (count > 0) {
      for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(hn::Lanes(d))) {
        hn::Store(shuffle_once(order_, hn::Load(d, open + i)), d, open + i);
      }
      std::int64_t again = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t row = open[i], at = place[i];
        rows[at] = row;
        open[again] = row;
        place[again] = at;
        again += row >= static_cast<std::uint32_t>(a_.rows) ? 1 : 0;
      }
      count = again;
    }
  }

  const DenseStep& a_;
  const ShuffledOrder order_;
};

/// Copies `count` rows of the data into panels, and their targets.
inline void gather(const DenseStep& a, const std::uint32_t* rows, std::int64_t count, float* input,
                   float* target) {
  const TileTag d;
  const std::int64_t inputs = a.layer[0].inputs;
  for (std::int64_t first = 0; first < inputs; first += kPanel, input += kChunkPanel) {
    const std::int64_t wanted = std::min<std::int64_t>(kPanel, inputs - first);
    hn::Mask<TileTag> kept[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      const std::int64_t at = v * static_cast<std::int64_t>(hn::MaxLanes(d));
      kept[v] = hn::FirstN(d, static_cast<std::size_t>(std::max<std::int64_t>(0, wanted - at)));
    }
    const float* x = a.x + first;
    // Of rows before this one a whole panel can be read.
    const std::int64_t whole = a.rows - (first + kPanel - 1) / inputs;
    for (std::int64_t i = 0; i < count; ++i) {
      const float* from = x + rows[i] * inputs;
      if (rows[i] >= whole) {
        copy_features(from, wanted, input + i * kPanel);
        continue;
      }
#pragma GCC unroll 16
      for (int v = 0; v < kTileVectors; ++v) {
        const int at = v * static_cast<int>(hn::MaxLanes(d));
        hn::StoreU(hn::IfThenElseZero(kept[v], hn::LoadU(d, from + at)), d,
                   input + i * kPanel + at);
      }
    }
  }
  for (std::int64_t i = 0; i < count; ++i) target[i] = a.y[rows[i]];
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
