#include "audio/resample.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>
#include <numeric>
#include <utility>

#include "kernels/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "audio/resample.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "hwy/highway.h"

#ifndef ONPA_AUDIO_RESAMPLE_CPP_
#define ONPA_AUDIO_RESAMPLE_CPP_
namespace onpa::audio {

// Taps of the ratio up / down. Outputs repeat their phases after a period of `up`; row m of
// `weight` holds the taps of output m of every period, `taps` of them, a multiple of 8.
struct PolyphaseFilter {
  std::int64_t up, down, half, taps;
  std::vector<float> weight;  // (up, taps)
};

}  // namespace onpa::audio
#endif

HWY_BEFORE_NAMESPACE();
namespace onpa::audio::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Output m of each of kPeriods successive periods, out[0], out[up], ...: they share their taps.
// Eight sums in flight hide the latency of multiply-add.
template <int kPeriods>
HWY_ATTR HWY_INLINE void filter_output(const PolyphaseFilter& filter, std::int64_t m,
                                       const float* HWY_RESTRICT padded, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 8> d;
  const float* taps = filter.weight.data() + m * filter.taps;
  const float* x = padded + m * filter.down / filter.up;
  hn::Vec<decltype(d)> sums[kPeriods];
#pragma GCC unroll 8
  for (int p = 0; p < kPeriods; ++p) sums[p] = hn::Zero(d);
  for (std::int64_t i = 0; i < filter.taps; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto tap = hn::LoadU(d, taps + i);
#pragma GCC unroll 8
    for (int p = 0; p < kPeriods; ++p) {
      sums[p] = hn::MulAdd(hn::LoadU(d, x + p * filter.down + i), tap, sums[p]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPeriods; ++p) {
    out[m + p * filter.up] = hn::GetLane(hn::SumOfLanes(d, sums[p]));
  }
}

// `padded` holds the wave with filter.half - 1 zeros before it and enough after it; every period
// moves on by `down` samples.
HWY_ATTR void apply_filter(const PolyphaseFilter& filter, const float* padded, std::int64_t count,
                           float* out) {
  constexpr int kTogether = 8;
  const std::int64_t up = filter.up, down = filter.down;
  for (; count >= kTogether * up; count -= kTogether * up) {
    for (std::int64_t m = 0; m < up; ++m) filter_output<kTogether>(filter, m, padded, out);
    padded += kTogether * down;
    out += kTogether * up;
  }
  for (; count > 0; count -= up) {
    for (std::int64_t m = 0; m < std::min(count, up); ++m) filter_output<1>(filter, m, padded, out);
    padded += down;
    out += up;
  }
}

}  // namespace
}  // namespace onpa::audio::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::audio {
namespace {

HWY_EXPORT(apply_filter);

constexpr double kZeroCrossings = 48;  // of the sinc, on either side
constexpr double kKaiserBeta = 9;      // stop band 90 dB down
constexpr double kCutoff = 0.985;      // of the lower Nyquist frequency, the middle of the slope

std::shared_ptr<const PolyphaseFilter> make_filter(std::int64_t up, std::int64_t down) {
  const double cutoff =
      kCutoff * std::min(1.0, static_cast<double>(up) / static_cast<double>(down));
  const double width = kZeroCrossings / cutoff;  // half the filter, in input samples
  auto filter = std::make_shared<PolyphaseFilter>();
  filter->up = up;
  filter->down = down;
  filter->half = static_cast<std::int64_t>(std::ceil(width));
  filter->taps = (2 * filter->half + 7) / 8 * 8;
  filter->weight.assign(static_cast<std::size_t>(up * filter->taps), 0.0f);
  const double window_scale = 1 / std::cyl_bessel_i(0.0, kKaiserBeta);
  std::vector<double> row(static_cast<std::size_t>(filter->taps));
  for (std::int64_t m = 0; m < up; ++m) {
    const double phase = static_cast<double>(m * down % up) / static_cast<double>(up);
    double sum = 0;
    for (std::int64_t j = 0; j < filter->taps; ++j) {
      const double t = static_cast<double>(j - filter->half + 1) - phase;
      const double u = t / width, angle = std::numbers::pi * cutoff * t;
      double tap = 0;
      if (std::abs(u) < 1) {
        tap = (t == 0 ? 1.0 : std::sin(angle) / angle) * window_scale *
              std::cyl_bessel_i(0.0, kKaiserBeta * std::sqrt(1 - u * u));
      }
      row[static_cast<std::size_t>(j)] = tap;
      sum += tap;
    }
    // Every phase passes a constant unchanged.
    for (std::int64_t j = 0; j < filter->taps; ++j) {
      filter->weight[static_cast<std::size_t>(m * filter->taps + j)] =
          static_cast<float>(row[static_cast<std::size_t>(j)] / sum);
    }
  }
  return filter;
}

std::shared_ptr<const PolyphaseFilter> filter_for(std::int64_t up, std::int64_t down) {
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, std::int64_t>, std::shared_ptr<const PolyphaseFilter>>
      kept;
  const std::lock_guard lock(mutex);
  auto found = kept.find({up, down});
  if (found == kept.end()) {
    if (kept.size() >= 16) kept.clear();  // odd rates in a hostile corpus must not pile up
    found = kept.emplace(std::pair{up, down}, make_filter(up, down)).first;
  }
  return found->second;
}

}  // namespace

std::int64_t resampled_length(std::int64_t samples, int from_hz, int to_hz) {
  return (samples * to_hz + from_hz - 1) / from_hz;
}

std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz) {
  ONPA_CHECK(from_hz >= 1 && to_hz >= 1, "resample: from ", from_hz, " to ", to_hz, " Hz");
  if (from_hz == to_hz || wave.empty()) return {wave.begin(), wave.end()};
  const int divisor = std::gcd(from_hz, to_hz);
  const auto filter = filter_for(to_hz / divisor, from_hz / divisor);
  const auto size = static_cast<std::int64_t>(wave.size());
  const std::int64_t count = resampled_length(size, from_hz, to_hz);
  std::vector<float> padded(static_cast<std::size_t>(size + filter->half + filter->taps), 0.0f);
  std::copy(wave.begin(), wave.end(), padded.begin() + filter->half - 1);
  std::vector<float> out(static_cast<std::size_t>(count));
  HWY_DYNAMIC_DISPATCH(apply_filter)(*filter, padded.data(), count, out.data());
  return out;
}

}  // namespace onpa::audio
#endif  // HWY_ONCE
