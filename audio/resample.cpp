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

bool can_resample(int from_hz, int to_hz) {
  const int divisor = std::gcd(from_hz, to_hz);
  return from_hz == to_hz ||
         polyphase_bytes(to_hz / divisor, from_hz / divisor) <= kMostFilterBytes;
}

// Filters period after period. Which of them go together, and so the rounding, depends on the
// length of the whole wave alone.
class StreamResampler::Periods {
 public:
  Periods(int from_hz, int to_hz)
      : filter_(
            polyphase_filter(to_hz / std::gcd(from_hz, to_hz), from_hz / std::gcd(from_hz, to_hz))),
        start_(1 - filter_->half) {}

  /// The first input sample that is still to be seen.
  std::int64_t start() const { return start_; }
  /// The end of what kLanes periods from there see.
  std::int64_t end_together() const {
    return start_ + (kLanes - 1) * filter_->stride + filter_->window;
  }
  /// Outputs up to `count` in all, of an input whose samples from `first` on `wave` holds.
  void run(std::span<const float> wave, std::int64_t first, std::int64_t count,
           std::vector<float>& out) {
    // Below that many periods, one by one costs less than all lanes with some of them empty.
    while (done_ < count)
      step(wave, first, count, count - done_ > kLanes / 2 * filter_->period, out);
  }
  /// kLanes periods, which all have outputs.
  void run_together(std::span<const float> wave, std::int64_t first, std::vector<float>& out) {
    step(wave, first, done_ + kLanes * filter_->period, true, out);
  }

 private:
  void step(std::span<const float> wave, std::int64_t first, std::int64_t count, bool together,
            std::vector<float>& out) {
    const PolyphaseFilter& filter = *filter_;
    const std::int64_t padded_period = filter.padded_period(), lanes = together ? kLanes : 1;
    if (!block_ || (together && !columns_)) allocate(together);
    const float* x = view(wave, start_ - first, (lanes - 1) * filter.stride + filter.window, edge_);
    if (together) {
      HWY_DYNAMIC_DISPATCH(filter_periods)(filter, x, columns_.get(), block_.get());
    } else {
      HWY_DYNAMIC_DISPATCH(filter_period)
      (filter, x, (std::min(filter.period, count - done_) + 3) / 4, block_.get());
    }
    for (std::int64_t lane = 0; lane < lanes && done_ < count; ++lane) {
      const std::int64_t n = std::min(filter.period, count - done_);
      const float* from = block_.get() + lane * padded_period;
      out.insert(out.end(), from, from + n);
      done_ += n;
    }
    start_ += lanes * filter.stride;
  }
  void allocate(bool together) {
    const std::int64_t lanes = together ? kLanes : 1;
    if (together) {
      columns_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(filter_->window * kLanes));
    }
    block_ =
        hwy::AllocateAligned<float>(static_cast<std::size_t>(filter_->padded_period() * lanes));
  }

  std::shared_ptr<const PolyphaseFilter> filter_;
  hwy::AlignedFreeUniquePtr<float[]> columns_, block_;
  std::vector<float> edge_;
  std::int64_t start_, done_ = 0;  // input samples, outputs
};

std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz) {
  ONPA_CHECK(from_hz >= 1 && to_hz >= 1, "resample: from ", from_hz, " to ", to_hz, " Hz");
  if (from_hz == to_hz || wave.empty()) return {wave.begin(), wave.end()};
  const std::int64_t count =
      resampled_length(static_cast<std::int64_t>(wave.size()), from_hz, to_hz);
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(count));
  StreamResampler::run_whole(wave, from_hz, to_hz, count, out);
  return out;
}

StreamResampler::StreamResampler(int from_hz, int to_hz) : from_hz_(from_hz), to_hz_(to_hz) {
  ONPA_CHECK(from_hz >= 1 && to_hz >= 1, "resample: from ", from_hz, " to ", to_hz, " Hz");
  if (from_hz != to_hz) periods_ = std::make_unique<Periods>(from_hz, to_hz);
}

StreamResampler::~StreamResampler() = default;

void StreamResampler::run_whole(std::span<const float> wave, int from_hz, int to_hz,
                                std::int64_t count, std::vector<float>& out) {
  Periods(from_hz, to_hz).run(wave, 0, count, out);
}

void StreamResampler::push(std::span<const float> wave, std::vector<float>& out) {
  if (!periods_) {
    out.insert(out.end(), wave.begin(), wave.end());
    return;
  }
  held_.insert(held_.end(), wave.begin(), wave.end());
  // As the whole wave is longer than what the lanes see, it makes them all full.
  while (periods_->end_together() <= first_ + static_cast<std::int64_t>(held_.size())) {
    periods_->run_together(held_, first_, out);
    const std::int64_t past = std::max<std::int64_t>(0, periods_->start() - first_);
    held_.erase(held_.begin(), held_.begin() + past);
    first_ += past;
  }
}

void StreamResampler::finish(std::vector<float>& out) {
  if (!periods_) return;
  const std::int64_t samples = first_ + static_cast<std::int64_t>(held_.size());
  periods_->run(held_, first_, resampled_length(samples, from_hz_, to_hz_), out);
}

}  // namespace onpa::audio
#endif
