#include "audio/polyphase.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace onpa::audio {
namespace {

constexpr double kZeroCrossings = 48;     // of the sinc, on either side
constexpr double kKaiserBeta = 9;         // stop band 90 dB down
constexpr double kCutoff = 0.985;         // of the lower Nyquist frequency, the middle of the slope
constexpr std::int64_t kMinPeriod = 128;  // outputs; a period shares its window between them

std::int64_t round_up_to_4(std::int64_t n) {
  return (n + 3) / 4 * 4;
}

double cutoff_of(std::int64_t up, std::int64_t down) {
  return kCutoff * std::min(1.0, static_cast<double>(up) / static_cast<double>(down));
}

// Half the filter, in input samples.
double width_of(std::int64_t up, std::int64_t down) {
  return kZeroCrossings / cutoff_of(up, down);
}

// Taps of an output `phase` samples after an input sample, for the 2 * half samples about it.
void fill_taps(double phase, double cutoff, double width, std::int64_t half,
               std::vector<double>& taps) {
  const double window_scale = 1 / std::cyl_bessel_i(0.0, kKaiserBeta);
  double sum = 0;
  taps.resize(static_cast<std::size_t>(2 * half));
  for (std::int64_t j = 0; j < 2 * half; ++j) {
    const double t = static_cast<double>(j - half + 1) - phase;
    const double u = t / width, angle = std::numbers::pi * cutoff * t;
    double tap = 0;
    if (std::abs(u) < 1) {
      tap = (t == 0 ? 1.0 : std::sin(angle) / angle) * window_scale *
            std::cyl_bessel_i(0.0, kKaiserBeta * std::sqrt(1 - u * u));
    }
    taps[static_cast<std::size_t>(j)] = tap;
    sum += tap;
  }
  // Every phase passes a constant unchanged.
  for (double& tap : taps) tap /= sum;
}

// The filter without its weights.
PolyphaseFilter shape_of(std::int64_t up, std::int64_t down) {
  constexpr std::int64_t kGroup = PolyphaseFilter::kGroup;
  PolyphaseFilter filter;
  filter.up = up;
  filter.down = down;
  filter.half = static_cast<std::int64_t>(std::ceil(width_of(up, down)));
  const std::int64_t repeats = (kMinPeriod + up - 1) / up;
  filter.period = repeats * up;
  filter.stride = repeats * down;
  filter.groups = (filter.period + kGroup - 1) / kGroup;
  filter.rows = round_up_to_4(2 * filter.half + ((kGroup - 1) * down + up - 1) / up);
  filter.window = round_up_to_4(filter.first_row(filter.groups - 1) + filter.rows);
  return filter;
}

std::shared_ptr<const PolyphaseFilter> make_filter(std::int64_t up, std::int64_t down) {
  constexpr std::int64_t kGroup = PolyphaseFilter::kGroup;
  const double cutoff = cutoff_of(up, down), width = width_of(up, down);
  auto filter = std::make_shared<PolyphaseFilter>(shape_of(up, down));
  filter->weight.assign(static_cast<std::size_t>(filter->weights()), 0.0f);
  std::vector<double> taps;
  for (std::int64_t m = 0; m < filter->period; ++m) {
    fill_taps(static_cast<double>(m * down % up) / static_cast<double>(up), cutoff, width,
              filter->half, taps);
    const std::int64_t group = m / kGroup, later = m * down / up - filter->first_row(group);
    float* weight = filter->weight.data() + (group * filter->rows + later) * kGroup + m % kGroup;
    for (std::size_t j = 0; j < taps.size(); ++j) {
      weight[static_cast<std::int64_t>(j) * kGroup] = static_cast<float>(taps[j]);
    }
  }
  return filter;
}

}  // namespace

std::int64_t polyphase_bytes(std::int64_t up, std::int64_t down) {
  return shape_of(up, down).bytes();
}

std::shared_ptr<const PolyphaseFilter> PolyphaseFilters::get(std::int64_t up, std::int64_t down) {
  const std::lock_guard lock(mutex_);
  auto found = kept_.find({up, down});
  if (found != kept_.end()) return found->second;
  auto filter = make_filter(up, down);
  if (bytes_ + filter->bytes() > most_bytes_) {
    kept_.clear();
    bytes_ = 0;
  }
  if (filter->bytes() <= most_bytes_) {
    bytes_ += filter->bytes();
    kept_.emplace(std::pair{up, down}, filter);
  }
  return filter;
}

std::shared_ptr<const PolyphaseFilter> polyphase_filter(std::int64_t up, std::int64_t down) {
  static PolyphaseFilters filters(kMostFilterBytes);
  return filters.get(up, down);
}

}  // namespace onpa::audio
