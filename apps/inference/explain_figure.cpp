#include "apps/inference/explain_figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <span>

#include "apps/inference/explain_canvas.h"
#include "apps/inference/explain_color.h"
#include "apps/report/report_text.h"
#include "apps/report/svg.h"

namespace onpa::apps::figure {
namespace {

constexpr double kWidth = 960, kHeight = 690;
constexpr Box kMel = {62, 92, 690, 176};
constexpr Box kMap = {62, 318, 690, 176};
constexpr Box kTime = {62, 546, 690, 76};
constexpr double kMargin = 786, kMarginWidth = 76;  // the plots over frequency
constexpr double kBar = 878, kBarWidth = 13;        // the colour scales
constexpr double kTextHeight = 13;                  // of labels one above the other
constexpr std::size_t kMostBins = 350;              // over time: two units each
constexpr double kOutliers = 0.005;

constexpr Rgb kInk = {34, 38, 46}, kSoft = {96, 103, 115}, kGrid = {222, 226, 231},
              kUnheard = {226, 228, 232};
constexpr TextStyle kTitle = {18, kInk, true}, kSubtitle = {13, kSoft, false},
                    kPanel = {13, kInk, true}, kLabel = {11, kSoft, false};

using ColorMap = std::function<Rgb(double share)>;  // of the range, in [0, 1]

struct Range {
  double low = 0, high = 1;
  double share(double value) const { return (value - low) / (high - low); }
};

// The value that a share of all lies below.
double quantile(std::vector<double> values, double share) {
  const auto at = static_cast<std::size_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

Range widened(double low, double high) {
  return high > low ? Range{low, high} : Range{low, low + std::max(1e-6, std::abs(low) * 1e-3)};
}

std::vector<double> values_of(const Tensor& x) {
  const auto values = x.span<float>();
  return {values.begin(), values.end()};
}

Range range_of(const Figure& figure) {
  std::vector<double> values = values_of(figure.map);
  if (!figure.with_signs) {
    return widened(std::min(0.0, *std::min_element(values.begin(), values.end())),
                   quantile(values, 1 - kOutliers));
  }
  for (double& v : values) v = std::abs(v);
  const double most = quantile(values, 1 - kOutliers);
  return widened(-most, most);
}

// The lowest band at the bottom.
Raster raster_of(const Tensor& x, const Range& range, const ColorMap& color) {
  Raster out{x.size(1), x.size(0), {}};
  out.pixels.reserve(static_cast<std::size_t>(x.numel()));
  for (std::int64_t row = x.size(0) - 1; row >= 0; --row) {
    const float* values = x.data<float>() + row * x.size(1);
    for (std::int64_t t = 0; t < x.size(1); ++t) {
      out.pixels.push_back(color(range.share(static_cast<double>(values[t]))));
    }
  }
  return out;
}

void outline(Canvas& canvas, const Box& box) {
  canvas.line({box.left, box.top}, {box.right(), box.top}, 1, kGrid);
  canvas.line({box.right(), box.top}, {box.right(), box.bottom()}, 1, kGrid);
  canvas.line({box.left, box.bottom()}, {box.right(), box.bottom()}, 1, kSoft);
  canvas.line({box.left, box.top}, {box.left, box.bottom()}, 1, kSoft);
}

void time_ticks(Canvas& canvas, const Figure& figure, const Box& box, bool labels) {
  const double end = figure.from_s + figure.seconds();
  const report::Ticks ticks = report::fit_ticks(figure.from_s, end, box.width, true);
  const report::Scale x{figure.from_s, end, box.left, box.right()};
  for (std::size_t i = 0; i < ticks.values.size(); ++i) {
    const double at = x(ticks.values[i]);
    canvas.line({at, box.bottom()}, {at, box.bottom() + 4}, 1, kSoft);
    if (labels) {
      canvas.text({at, box.bottom() + 17}, Anchor::kMiddle, kLabel, ticks.labels[i]);
    }
  }
}

void frequency_ticks(Canvas& canvas, const Figure& figure, const Box& box) {
  // The ones that matter most first; what would lie on another is left out.
  constexpr std::array<double, 7> kHz = {1000, 4000, 250, 8000, 500, 2000, 125};
  std::vector<double> taken;
  for (const double hz : kHz) {
    const double position = mel_position(figure.front_end, hz);
    if (position < 0 || position > 1) continue;
    const double y = box.bottom() - position * box.height;
    const bool free = std::all_of(taken.begin(), taken.end(),
                                  [y](double other) { return std::abs(y - other) >= kTextHeight; });
    if (!free) continue;
    taken.push_back(y);
    canvas.line({box.left - 4, y}, {box.left, y}, 1, kSoft);
    canvas.text({box.left - 7, y + 4}, Anchor::kEnd, kLabel, report::grouped(hz));
  }
  canvas.text({box.left - 7, box.top - 8}, Anchor::kEnd, kLabel, "Hz");
}

void color_scale(Canvas& canvas, const Box& beside, const Range& range, const ColorMap& color,
                 const std::string& unit) {
  const Box bar = {kBar, beside.top, kBarWidth, beside.height};
  Raster steps{1, 256, {}};
  for (int i = 255; i >= 0; --i) steps.pixels.push_back(color(i / 255.0));
  canvas.image(bar, steps);
  canvas.text({bar.left, bar.top - 8}, Anchor::kStart, kLabel, unit);
  const report::Ticks ticks = report::fit_ticks(range.low, range.high, bar.height, false);
  const report::Scale y{range.low, range.high, bar.bottom(), bar.top};
  for (std::size_t i = 0; i < ticks.values.size(); ++i) {
    const double at = y(ticks.values[i]);
    canvas.line({bar.right(), at}, {bar.right() + 4, at}, 1, kSoft);
    canvas.text({bar.right() + 7, at + 4}, Anchor::kStart, kLabel, ticks.labels[i]);
  }
}

// Neighbours joined to at most `most` means.
std::vector<double> binned(const std::vector<double>& values, std::size_t most) {
  const std::size_t bins = std::min(values.size(), most);
  std::vector<double> out(bins);
  for (std::size_t i = 0; i < bins; ++i) {
    const std::size_t from = i * values.size() / bins, to = (i + 1) * values.size() / bins;
    for (std::size_t j = from; j < to; ++j) out[i] += values[j] / static_cast<double>(to - from);
  }
  return out;
}

Range margin_range(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double room = 0.05 * std::max(std::abs(*low), std::abs(*high));
  return widened(*low < 0 ? *low - room : 0, *high > 0 ? *high + room : 0);
}

struct MarginColors {
  Rgb above, below;
};
MarginColors margin_colors(bool with_signs) {
  if (!with_signs) return {sequential_color(0.4), sequential_color(0.4)};
  return {diverging_color(0.7), diverging_color(-0.7)};
}

// Steps along an axis, filled from 0; `at(share, value)` places them.
void steps(Canvas& canvas, const std::vector<double>& values, const MarginColors& colors,
           const std::function<Point(double share, double value)>& at) {
  for (const bool above : {true, false}) {
    std::vector<Point> corners = {at(0, 0)};
    bool any = false;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double value = above ? std::max(0.0, values[i]) : std::min(0.0, values[i]);
      any = any || value != 0;
      const auto count = static_cast<double>(values.size());
      corners.push_back(at(static_cast<double>(i) / count, value));
      corners.push_back(at(static_cast<double>(i + 1) / count, value));
    }
    corners.push_back(at(1, 0));
    if (any) canvas.polygon(corners, above ? colors.above : colors.below);
  }
}

void margin_over_time(Canvas& canvas, const Figure& figure) {
  const std::vector<double> values = binned(figure.over_time, kMostBins);
  const Range range = margin_range(values);
  const report::Scale y{range.low, range.high, kTime.bottom(), kTime.top};
  const report::Ticks ticks = report::fit_ticks(range.low, range.high, kTime.height, false);
  for (std::size_t i = 0; i < ticks.values.size(); ++i) {
    const double at = y(ticks.values[i]);
    canvas.line({kTime.left, at}, {kTime.right(), at}, 1, kGrid);
    canvas.text({kTime.left - 7, at + 4}, Anchor::kEnd, kLabel, ticks.labels[i]);
  }
  steps(canvas, values, margin_colors(figure.with_signs), [&](double share, double value) {
    return Point{kTime.left + share * kTime.width, y(value)};
  });
  canvas.line({kTime.left, y(0)}, {kTime.right(), y(0)}, 1, kSoft);
  canvas.line({kTime.left, kTime.top}, {kTime.left, kTime.bottom()}, 1, kSoft);
  canvas.text({kTime.left, kTime.top - 9}, Anchor::kStart, kPanel, figure.time_title);
  time_ticks(canvas, figure, kTime, true);
  canvas.text({kTime.left + kTime.width / 2, kTime.bottom() + 34}, Anchor::kMiddle, kLabel,
              "time in seconds");
}

void margin_over_frequency(Canvas& canvas, const Figure& figure) {
  const Range range = margin_range(figure.over_frequency);
  const Box box = {kMargin, kMap.top, kMarginWidth, kMap.height};
  const report::Scale x{range.low, range.high, box.left, box.right()};
  steps(canvas, figure.over_frequency, margin_colors(figure.with_signs),
        [&](double share, double value) {
          return Point{x(value), box.bottom() - share * box.height};
        });
  canvas.line({x(0), box.top}, {x(0), box.bottom()}, 1, kSoft);
  canvas.text({box.left, box.top - 8}, Anchor::kStart, kLabel, figure.frequency_title);
  const report::Ticks ticks = report::fit_ticks(range.low, range.high, box.width, true);
  for (std::size_t i = 0; i < ticks.values.size(); ++i) {
    const double at = x(ticks.values[i]);
    canvas.line({at, box.bottom()}, {at, box.bottom() + 4}, 1, kSoft);
    canvas.text({at, box.bottom() + 17}, Anchor::kMiddle, kLabel, ticks.labels[i]);
  }
}

void spectrogram(Canvas& canvas, const Figure& figure) {
  // The front end's values are natural logarithms of power, shifted and scaled.
  const double to_db = 10 / std::log(10);
  Tensor db = figure.mel.clone();
  for (float& v : db.span<float>()) {
    v = static_cast<float>(to_db * (v * figure.front_end.std + figure.front_end.mean));
  }
  std::vector<double> values = values_of(db);
  const Range range = widened(quantile(values, kOutliers), quantile(values, 1 - kOutliers));
  canvas.text({kMel.left, kMel.top - 8}, Anchor::kStart, kPanel, "Log-mel spectrogram");
  canvas.image(kMel, raster_of(db, range, sequential_color));
  outline(canvas, kMel);
  time_ticks(canvas, figure, kMel, true);
  frequency_ticks(canvas, figure, kMel);
  color_scale(canvas, kMel, range, sequential_color, "power, dB");
}

// What lies under no patch, at the end and at the top, has no value.
void shade_unheard(Canvas& canvas, const Figure& figure) {
  const double width = kMap.width * (1 - static_cast<double>(figure.heard_frames) /
                                             static_cast<double>(figure.map.size(1)));
  const double height = kMap.height * (1 - static_cast<double>(figure.heard_mels) /
                                               static_cast<double>(figure.map.size(0)));
  if (width > 0) canvas.rect({kMap.right() - width, kMap.top, width, kMap.height}, kUnheard);
  if (height > 0) canvas.rect({kMap.left, kMap.top, kMap.width, height}, kUnheard);
}

void explained(Canvas& canvas, const Figure& figure) {
  const ColorMap color = figure.with_signs
                             ? ColorMap([](double share) { return diverging_color(2 * share - 1); })
                             : ColorMap(sequential_color);
  const Range range = range_of(figure);
  canvas.text({kMap.left, kMap.top - 8}, Anchor::kStart, kPanel, figure.map_title);
  canvas.image(kMap, raster_of(figure.map, range, color));
  shade_unheard(canvas, figure);
  outline(canvas, kMap);
  time_ticks(canvas, figure, kMap, true);
  frequency_ticks(canvas, figure, kMap);
  color_scale(canvas, kMap, range, color, figure.map_unit);
}

std::string draw(Canvas& canvas, const Figure& figure) {
  canvas.text({18, 32}, Anchor::kStart, kTitle, report::shortened(figure.title, 88));
  canvas.text({18, 54}, Anchor::kStart, kSubtitle, figure.subtitle);
  spectrogram(canvas, figure);
  explained(canvas, figure);
  margin_over_frequency(canvas, figure);
  margin_over_time(canvas, figure);
  canvas.text({18, kHeight - 12}, Anchor::kStart, kLabel, figure.note);
  return canvas.finish();
}

double mel_of(double hz) {
  return 1127 * std::log1p(hz / 700);
}

// Mels from one band's centre to the next; the lowest centre lies one above the lower end.
double band_step(const audio::MelConfig& config) {
  return (mel_of(config.fmax_hz) - mel_of(config.fmin_hz)) / (config.mels + 1);
}

}  // namespace

double Figure::seconds() const {
  return static_cast<double>(mel.size(1) * front_end.hop_samples) / front_end.rate_hz;
}

double mel_position(const audio::MelConfig& config, double hz) {
  const double band = (mel_of(hz) - mel_of(config.fmin_hz)) / band_step(config) - 1;
  return (band + 0.5) / config.mels;
}

double band_centre_hz(const audio::MelConfig& config, std::int64_t band) {
  const double mel = mel_of(config.fmin_hz) + static_cast<double>(band + 1) * band_step(config);
  return 700 * std::expm1(mel / 1127);
}

std::string draw_svg(const Figure& figure) {
  const auto canvas = svg_canvas(kWidth, kHeight, figure.title + ". " + figure.subtitle);
  return draw(*canvas, figure);
}

std::string draw_png(const Figure& figure) {
  const auto canvas = png_canvas(kWidth, kHeight);
  return draw(*canvas, figure);
}

}  // namespace onpa::apps::figure
