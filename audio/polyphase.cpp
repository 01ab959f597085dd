#include "audio/polyphase.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <utility>

namespace onpa::audio {
namespace {

constexpr double kZeroCrossings = 48;     // of the sinc, on either side
constexpr double kKaiserBeta = 9;         // stop band 90 dB down
constexpr double kCutoff = 0.985;         // of the lower Nyquist frequency, the middle of the slope
constexpr std::int64_t kMinPeriod = 128;  // outputs; a period shares its window between them

std::int64_t round_up_to_4(std::int64_t n) {
  return (n + 3) / 4 * 4;
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

std::shared_ptr<const PolyphaseFilter> make_filter(std::int64_t up, std::int64_t down) {
  constexpr std::int64_t kGroup = PolyphaseFilter::kGroup;
  const double cutoff =
      kCutoff * std::min(1.0, static_cast<double>(up) / static_cast<double>(down));
  const double width = kZeroCrossings / cutoff;  // half the filter, in input samples
  auto filter = std::make_shared<PolyphaseFilter>();
  filter->up = up;
  filter->down = down;
  filter->half = static_cast<std::int64_t>(std::ceil(width));
  const std::int64_t repeats = (kMinPeriod + up - 1) / up;
  filter->period = repeats * up;
  filter->stride = repeats * down;
  filter->groups = (filter->period + kGroup - 1) / kGroup;
  filter->rows = round_up_to_4(2 * filter->half + ((kGroup - 1) * down + up - 1) / up);
  filter->window = round_up_to_4(filter->first_row(filter->groups - 1) + filter->rows);
  filter->weight.assign(static_cast<std::size_t>(filter->padded_period() * filter->rows), 0.0f);
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

std::shared_ptr<const PolyphaseFilter> polyphase_filter(std::int64_t up, std::int64_t down) {
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

}  // namespace onpa::audio
