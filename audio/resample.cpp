#include "audio/resample.h"

#include <algorithm>
#include <numeric>

#include "audio/polyphase.h"
#include "kernels/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "audio/resample.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "hwy/aligned_allocator.h"
#include "hwy/highway.h"
#include "kernels/cpu/transpose-inl.h"

#ifndef ONPA_AUDIO_RESAMPLE_CPP_
#define ONPA_AUDIO_RESAMPLE_CPP_
namespace onpa::audio {

// Periods that are filtered together, one in each lane: they have the same taps.
constexpr std::int64_t kLanes = 16;

}  // namespace onpa::audio
#endif

HWY_BEFORE_NAMESPACE();
namespace onpa::audio::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using kernels::HWY_NAMESPACE::transpose_4x4;

// Adds rows [0, count) of 4 outputs' taps, times 2 vectors of lanes of every row of x, to `sums`
// (4, kLanes). Eight sums in flight hide the latency of multiply-add.
HWY_ATTR HWY_INLINE void add_rows(const float* HWY_RESTRICT w, const float* HWY_RESTRICT x,
                                  std::int64_t count, float* HWY_RESTRICT sums) {
  const hn::CappedTag<float, 8> d;
  const std::int64_t n = static_cast<std::int64_t>(hn::Lanes(d));
  auto a0 = hn::Zero(d), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
  for (std::int64_t j = 0; j < count; ++j, x += kLanes, w += 4) {
    const auto x0 = hn::Load(d, x), x1 = hn::Load(d, x + n);
    const auto wa = hn::Set(d, w[0]), wb = hn::Set(d, w[1]);
    a0 = hn::MulAdd(x0, wa, a0), a1 = hn::MulAdd(x1, wa, a1);
    b0 = hn::MulAdd(x0, wb, b0), b1 = hn::MulAdd(x1, wb, b1);
    const auto wc = hn::Set(d, w[2]), we = hn::Set(d, w[3]);
    c0 = hn::MulAdd(x0, wc, c0), c1 = hn::MulAdd(x1, wc, c1);
    e0 = hn::MulAdd(x0, we, e0), e1 = hn::MulAdd(x1, we, e1);
  }
  const auto add = [&](auto low, auto high, float* to) HWY_ATTR {
    hn::Store(hn::Add(hn::Load(d, to), low), d, to);
    hn::Store(hn::Add(hn::Load(d, to + n), high), d, to + n);
  };
  add(a0, a1, sums);
  add(b0, b1, sums + kLanes);
  add(c0, c1, sums + 2 * kLanes);
  add(e0, e1, sums + 3 * kLanes);
}

// Group g of kLanes periods from columns (window, kLanes) into sums (kGroup, kLanes). Each half of
// the rows is summed by itself: long sums round more.
HWY_ATTR HWY_INLINE void filter_group(const PolyphaseFilter& filter, std::int64_t g,
                                      const float* HWY_RESTRICT columns, float* HWY_RESTRICT sums) {
  static_assert(PolyphaseFilter::kGroup == 4);
  const std::int64_t both = 2 * static_cast<std::int64_t>(hn::Lanes(hn::CappedTag<float, 8>()));
  const std::int64_t half = filter.rows / 2;
  const float* x = columns + filter.first_row(g) * kLanes;
  const float* w = filter.weight.data() + g * filter.rows * 4;
  std::fill_n(sums, 4 * kLanes, 0.0f);
  for (std::int64_t lane = 0; lane < kLanes; lane += both) {
    add_rows(w, x + lane, half, sums + lane);
    add_rows(w + half * 4, x + half * kLanes + lane, filter.rows - half, sums + lane);
  }
}

// kLanes periods. x: the samples that they see; columns: scratch (window, kLanes);
// out: (kLanes, padded_period).
HWY_ATTR void filter_periods(const PolyphaseFilter& filter, const float* x, float* columns,
                             float* out) {
  for (std::int64_t lane = 0; lane < kLanes; lane += 4) {
    for (std::int64_t row = 0; row < filter.window; row += 4) {
      transpose_4x4(x + lane * filter.stride + row, filter.stride, columns + row * kLanes + lane,
                    kLanes);
    }
  }
  HWY_ALIGN float sums[4 * kLanes];
  const std::int64_t padded_period = filter.padded_period();
  for (std::int64_t g = 0; g < filter.groups; ++g) {
    filter_group(filter, g, columns, sums);
    for (std::int64_t lane = 0; lane < kLanes; lane += 4) {
      transpose_4x4(sums + lane, kLanes, out + lane * padded_period + g * 4, padded_period);
    }
  }
}

// The first `groups` groups of one period: four outputs of a group in the lanes.
HWY_ATTR void filter_period(const PolyphaseFilter& filter, const float* HWY_RESTRICT x,
                            std::int64_t groups, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 4> d;
  const std::int64_t n = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t g = 0; g < groups; ++g) {
    const float* from = x + filter.first_row(g);
    for (std::int64_t lane = 0; lane < 4; lane += n) {
      const float* w = filter.weight.data() + g * filter.rows * 4 + lane;
      auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      for (std::int64_t j = 0; j < filter.rows; j += 4, w += 16) {
        s0 = hn::MulAdd(hn::Set(d, from[j]), hn::LoadU(d, w), s0);
        s1 = hn::MulAdd(hn::Set(d, from[j + 1]), hn::LoadU(d, w + 4), s1);
        s2 = hn::MulAdd(hn::Set(d, from[j + 2]), hn::LoadU(d, w + 8), s2);
        s3 = hn::MulAdd(hn::Set(d, from[j + 3]), hn::LoadU(d, w + 12), s3);
      }
      hn::StoreU(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), d, out + g * 4 + lane);
    }
  }
}

}  // namespace
}  // namespace onpa::audio::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::audio {
namespace {

HWY_EXPORT(filter_periods);
HWY_EXPORT(filter_period);

// Samples [start, start + count) of the wave, which is 0 outside; in `edge` if it must be.
const float* view(std::span<const float> wave, std::int64_t start, std::int64_t count,
                  std::vector<float>& edge) {
  const auto size = static_cast<std::int64_t>(wave.size());
  if (start >= 0 && start + count <= size) return wave.data() + start;
  edge.assign(static_cast<std::size_t>(count), 0.0f);
  const std::int64_t from = std::clamp<std::int64_t>(start, 0, size);
  const std::int64_t until = std::clamp<std::int64_t>(start + count, from, size);
  std::copy(wave.begin() + from, wave.begin() + until, edge.begin() + (from - start));
  return edge.data();
}

}  // namespace

std::int64_t resampled_length(std::int64_t samples, int from_hz, int to_hz) {
  return (samples * to_hz + from_hz - 1) / from_hz;
}

std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz) {
  ONPA_CHECK(from_hz >= 1 && to_hz >= 1, "resample: from ", from_hz, " to ", to_hz, " Hz");
  if (from_hz == to_hz || wave.empty()) return {wave.begin(), wave.end()};
  const int divisor = std::gcd(from_hz, to_hz);
  const auto filter = polyphase_filter(to_hz / divisor, from_hz / divisor);
  const std::int64_t period = filter->period, padded_period = filter->padded_period();
  const std::int64_t count =
      resampled_length(static_cast<std::int64_t>(wave.size()), from_hz, to_hz);
  // Below that many periods, one by one costs less than all lanes with some of them empty.
  const bool together = count > kLanes / 2 * period;
  const auto columns =
      hwy::AllocateAligned<float>(static_cast<std::size_t>(together ? filter->window * kLanes : 1));
  const auto block = hwy::AllocateAligned<float>(
      static_cast<std::size_t>(padded_period * (together ? kLanes : 1)));
  std::vector<float> edge, out;
  out.reserve(static_cast<std::size_t>(count));
  for (std::int64_t done = 0, start = 1 - filter->half; done < count;) {
    const std::int64_t left = count - done;
    const std::int64_t lanes = left > kLanes / 2 * period ? kLanes : 1;
    const float* x = view(wave, start, (lanes - 1) * filter->stride + filter->window, edge);
    if (lanes == kLanes) {
      HWY_DYNAMIC_DISPATCH(filter_periods)(*filter, x, columns.get(), block.get());
    } else {
      HWY_DYNAMIC_DISPATCH(filter_period)
      (*filter, x, (std::min(period, left) + 3) / 4, block.get());
    }
    for (std::int64_t lane = 0; lane < lanes && done < count; ++lane) {
      const std::int64_t n = std::min(period, count - done);
      const float* from = block.get() + lane * padded_period;
      out.insert(out.end(), from, from + n);
      done += n;
    }
    start += lanes * filter->stride;
  }
  return out;
}

}  // namespace onpa::audio
#endif
