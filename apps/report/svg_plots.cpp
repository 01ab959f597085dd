#include "apps/report/svg_plots.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "apps/report/report_text.h"

namespace onpa::apps::report {
namespace {

constexpr double kTop = 26, kBottom = 196, kHeight = 236;  // of plots of ordinary height
constexpr double kRight = kPlotWidth - 12;
constexpr std::size_t kMostMarks = 60;  // more would cover the line

// Room for the labels of the y axis.
double left_edge(const Axis& y, double pixels) {
  double widest = 0;
  for (const std::string& label : fit_ticks(y.low, y.high, pixels, false).labels) {
    widest = std::max(widest, text_width(label));
  }
  return std::max(30.0, widest + 10);
}

std::string classes(const char* kind, const SeriesStyle& style) {
  return std::string(kind) + " " + style.key + (style.second ? " second" : "");
}

void mark_point(Svg& svg, const SeriesStyle& style, double x, double y, const std::string& tip) {
  if (style.second) {
    svg.diamond(x, y, 4.2, classes("dot", style), tip);
  } else {
    svg.circle(x, y, 3.2, classes("dot", style), tip);
  }
}

std::vector<std::pair<double, double>> finite_points(const Series& series) {
  std::vector<std::pair<double, double>> out;
  for (const auto& point : series.points) {
    if (std::isfinite(point.first) && std::isfinite(point.second)) out.push_back(point);
  }
  return out;
}

}  // namespace

std::string legend(const std::vector<SeriesStyle>& series, bool bars) {
  std::string out = "<p class=\"legend\">";
  for (const SeriesStyle& style : series) {
    out += "<span><svg class=\"key\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">";
    if (bars) {
      out += "<rect x=\"1\" y=\"2\" width=\"24\" height=\"8\" class=\"" + classes("bar", style) +
             "\"/>";
    } else {
      out +=
          "<line x1=\"0\" y1=\"6\" x2=\"26\" y2=\"6\" class=\"" + classes("curve", style) + "\"/>";
      out += style.second
                 ? "<path d=\"M13 1.8L17.2 6L13 10.2L8.8 6Z\" class=\"" + classes("dot", style) +
                       "\"/>"
                 : "<circle cx=\"13\" cy=\"6\" r=\"3.2\" class=\"" + classes("dot", style) + "\"/>";
    }
    out += "</svg> " + escape(style.name) + "</span>";
  }
  return out + "</p>\n";
}

std::string line_plot(const std::string& label, const std::string& x_title,
                      const std::string& y_title, const std::vector<Series>& series,
                      bool y_from_zero) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = y_from_zero ? 0 : INFINITY,
         y_high = -INFINITY;
  for (const Series& line : series) {
    for (const auto& [x, y] : finite_points(line)) {
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  }
  if (!std::isfinite(x_low) || !std::isfinite(y_high)) return "";
  const auto [x_from, x_to] = x_high > x_low ? std::pair(x_low, x_high) : round_range(x_low, x_low);
  const auto [y_from, y_to] = round_range(y_low, y_high);
  const Axis x_axis{x_title, x_from, x_to}, y_axis{y_title, y_from, y_to};
  Svg svg(kPlotWidth, kHeight, label);
  const Frame frame(svg, x_axis, y_axis, left_edge(y_axis, kBottom - kTop), kRight, kTop, kBottom);
  for (const Series& line : series) {
    std::vector<std::pair<double, double>> drawn;
    for (const auto& [x, y] : finite_points(line)) drawn.emplace_back(frame.x(x), frame.y(y));
    if (drawn.size() > 1) svg.polyline(drawn, classes("curve", line.style));
    const bool all_marked = line.marks && drawn.size() <= kMostMarks;
    const std::size_t stride = (line.points.size() + kMostMarks - 1) / kMostMarks;
    for (std::size_t i = 0; i < line.points.size(); ++i) {
      const auto& [x, y] = line.points[i];
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      const std::string tip = i < line.tips.size() ? line.tips[i] : "";
      if (all_marked || drawn.size() == 1) {
        mark_point(svg, line.style, frame.x(x), frame.y(y), tip);
      } else if (!tip.empty() && i % stride == 0) {
        svg.circle(frame.x(x), frame.y(y), 6, "hit", tip);
      }
    }
  }
  return svg.finish();
}

std::string histogram_plot(const std::string& label, const std::string& x_title,
                           const Histogram& histogram) {
  const std::size_t bins = std::max(histogram.before.size(), histogram.after.size());
  double most = 0, all_before = 0, all_after = 0;
  for (const double count : histogram.before) {
    most = std::max(most, count);
    all_before += count;
  }
  for (const double count : histogram.after) {
    most = std::max(most, count);
    all_after += count;
  }
  if (bins == 0 || most <= 0) return "";
  const Axis x_axis{x_title, histogram.low,
                    histogram.low + histogram.bin_width * static_cast<double>(bins)};
  const Axis y_axis{"tracks in a bin", 0, round_range(0, most).second};
  Svg svg(kPlotWidth, kHeight, label);
  const Frame frame(svg, x_axis, y_axis, left_edge(y_axis, kBottom - kTop), kRight, kTop, kBottom);
  const auto draw = [&](const std::vector<double>& counts, const std::string& style,
                        const std::string& name, double all) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] <= 0) continue;
      const double from = histogram.low + histogram.bin_width * static_cast<double>(i);
      const double to = from + histogram.bin_width;
      const double x = frame.x(from), width = frame.x(to) - x, y = frame.y(counts[i]);
      const double inset = std::min(1.0, width * 0.1);
      svg.rect(x + inset / 2, y, width - inset, kBottom - y, style,
               name + ", popularity " + significant(from, 3) + " to " + significant(to, 3) + ": " +
                   counted(counts[i], "track", "tracks") + " (" + fixed(100 * counts[i] / all, 1) +
                   " %)");
    }
  };
  draw(histogram.before, "bar before", histogram.before_name, all_before);
  draw(histogram.after, "bar " + histogram.key, histogram.after_name, all_after);
  return svg.finish();
}

std::string bar_plot(const std::string& label, const std::string& x_title, double high,
                     const std::vector<SeriesStyle>& series, const std::vector<BarRow>& rows) {
  constexpr double kLabelEdge = 118, kBar = 6, kStep = 8;
  constexpr std::size_t kLabelCharacters = 18;
  const double group = kStep * static_cast<double>(series.size()) + 6;
  const double top = 14, bottom = top + group * static_cast<double>(rows.size());
  Svg svg(kPlotWidth, bottom + 38, label);
  const Scale x{0, high, kLabelEdge, kRight};
  const Ticks ticks = fit_ticks(0, high, kRight - kLabelEdge, true);
  for (std::size_t i = 0; i < ticks.values.size(); ++i) {
    svg.line(x(ticks.values[i]), top - 2, x(ticks.values[i]), bottom, "grid");
    svg.text(x(ticks.values[i]), bottom + 14, "middle", "tick", ticks.labels[i]);
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const BarRow& row = rows[r];
    const double y = top + group * static_cast<double>(r);
    if (row.mark) svg.rect(0, y, kPlotWidth, group, "band");
    svg.text(kLabelEdge - 6, y + group / 2 + 4, "end", row.mark ? "label strong" : "label",
             shortened(row.name, kLabelCharacters));
    std::string tips;
    for (std::size_t s = 0; s < series.size() && s < row.values.size(); ++s) {
      const BarValue& value = row.values[s];
      if (!value.tip.empty()) tips += (tips.empty() ? "" : "\n") + value.tip;
      if (!std::isfinite(value.value)) continue;
      const double at = y + 3 + kStep * static_cast<double>(s);
      svg.rect(kLabelEdge, at, x(std::min(value.value, high)) - kLabelEdge, kBar,
               classes("bar", series[s]));
      if (!(value.low <= value.high)) continue;
      const double from = x(std::max(0.0, value.low)), to = x(std::min(value.high, high));
      svg.line(from, at + kBar / 2, to, at + kBar / 2, "whisker");
      svg.line(from, at + 1, from, at + kBar - 1, "whisker");
      svg.line(to, at + 1, to, at + kBar - 1, "whisker");
    }
    svg.rect(0, y, kPlotWidth, group, "hit", row.name + (tips.empty() ? "" : "\n" + tips));
  }
  svg.line(kLabelEdge, top - 2, kLabelEdge, bottom, "axis");
  svg.text((kLabelEdge + kRight) / 2, bottom + 31, "middle", "axis-title", x_title);
  return svg.finish();
}

namespace {

struct Box {
  double left, right, top, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

// Names the marked point and those furthest from the diagonal, where no point or name is.
void name_points(Svg& svg, const Frame& frame, const std::vector<ScatterPoint>& points,
                 const Box& area) {
  constexpr std::size_t kMostNames = 9;
  std::vector<Box> taken;
  std::vector<const ScatterPoint*> order;
  for (const ScatterPoint& point : points) {
    const double x = frame.x(point.x), y = frame.y(point.y);
    taken.push_back({x - 4, x + 4, y - 4, y + 4});
    order.push_back(&point);
  }
  const auto marked = [](const ScatterPoint* point) { return point->kind == PointKind::kMarked; };
  std::stable_sort(order.begin(), order.end(), [&](const ScatterPoint* a, const ScatterPoint* b) {
    if (marked(a) != marked(b)) return marked(a);
    return std::abs(a->x - a->y) > std::abs(b->x - b->y);
  });
  if (order.size() > kMostNames) order.resize(kMostNames);
  for (const ScatterPoint* point : order) {
    const std::string name = shortened(point->name, 20);
    const double x = frame.x(point->x), y = frame.y(point->y), width = text_width(name);
    // Right, left, above, below; a marked point is named whatever is there.
    const std::array<Box, 4> places = {{{x + 7, x + 7 + width, y - 7, y + 6},
                                        {x - 7 - width, x - 7, y - 7, y + 6},
                                        {x - width / 2, x + width / 2, y - 21, y - 8},
                                        {x - width / 2, x + width / 2, y + 8, y + 21}}};
    const auto inside = [&](const Box& box) {
      return box.left >= area.left && box.right <= area.right && box.top >= area.top &&
             box.bottom <= area.bottom;
    };
    const Box* place = nullptr;
    for (const Box& box : places) {
      const bool free = std::none_of(taken.begin(), taken.end(),
                                     [&](const Box& other) { return box.meets(other); });
      if (place == nullptr && inside(box) && free) place = &box;
    }
    for (const Box& box : places) {
      if (place == nullptr && marked(point) && inside(box)) place = &box;
    }
    if (place == nullptr) continue;
    svg.text((place->left + place->right) / 2, place->top + 11, "middle",
             marked(point) ? "label strong over" : "label over", name);
    taken.push_back(*place);
  }
}

}  // namespace

std::string square_plot(const std::string& label, const std::string& x_title,
                        const std::string& y_title, double low, double high,
                        const std::vector<ScatterPoint>& points) {
  if (points.empty()) return "";
  constexpr double kLeft = 38, kSide = 286;
  Svg svg(kPlotWidth, kTop + kSide + 40, label);
  const Frame frame(svg, {x_title, low, high}, {y_title, low, high}, kLeft, kLeft + kSide, kTop,
                    kTop + kSide);
  svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "diagonal");
  for (const ScatterPoint& point : points) {
    const double x = frame.x(point.x), y = frame.y(point.y);
    if (point.kind == PointKind::kMarked) {
      svg.rect(x - 4.5, y - 4.5, 9, 9, "dot marked", point.tip);
    } else if (point.kind == PointKind::kOther) {
      svg.diamond(x, y, 4.6, "dot dense", point.tip);
    } else {
      svg.circle(x, y, 3.4, "dot passt", point.tip);
    }
  }
  name_points(svg, frame, points, {kLeft, kLeft + kSide, kTop, kTop + kSide});
  return svg.finish();
}

namespace {

// 1..9 for a count of at least 1, by its logarithm.
int heat_level(double count, double most) {
  if (most <= 1) return 9;
  return 1 + static_cast<int>(std::floor(8 * std::log(count) / std::log(most) + 1e-9));
}

// Mean bin index, counted from 0 at the middle of the first; NaN without counts.
double mean_bin(const std::vector<double>& counts) {
  double sum = 0, weighted = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (!(counts[i] > 0)) continue;
    sum += counts[i];
    weighted += counts[i] * (static_cast<double>(i) + 0.5);
  }
  return weighted / sum;
}

}  // namespace

std::string heat_plot(const std::string& label, const std::string& x_title,
                      const std::string& y_title, double low, double high,
                      const std::vector<std::vector<double>>& counts, const std::string& key) {
  double most = 0;
  for (const std::vector<double>& row : counts) {
    for (const double count : row) most = std::max(most, count);
  }
  if (most <= 0) return "";
  constexpr double kLeft = 38, kSide = 286;
  Svg svg(kPlotWidth, kTop + kSide + 40, label);
  const Frame frame(svg, {x_title, low, high}, {y_title, low, high}, kLeft, kLeft + kSide, kTop,
                    kTop + kSide);
  const double width = (high - low) / static_cast<double>(counts.size());
  const double side = kSide / static_cast<double>(counts.size());
  const auto range = [&](std::size_t bin) {
    const double from = low + width * static_cast<double>(bin);
    return significant(from, 3) + "–" + significant(from + width, 3);
  };
  std::vector<std::pair<double, double>> means;
  for (std::size_t t = 0; t < counts.size(); ++t) {
    const double x = frame.x(low + width * static_cast<double>(t));
    for (std::size_t p = 0; p < counts[t].size(); ++p) {
      if (!(counts[t][p] >= 1)) continue;
      const double y = frame.y(low + width * static_cast<double>(p + 1));
      svg.rect(x, y, side, side,
               "heat " + key + " h" + std::to_string(heat_level(counts[t][p], most)),
               "true " + range(t) + ", predicted " + range(p) + ": " +
                   counted(counts[t][p], "track", "tracks"));
    }
    if (const double mean = mean_bin(counts[t]); std::isfinite(mean)) {
      means.emplace_back(x + side / 2, frame.y(low + width * mean));
    }
  }
  svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "diagonal");
  if (means.size() > 1) {
    svg.polyline(means, "mean under");
    svg.polyline(means, "mean");
  }
  return svg.finish();
}

}  // namespace onpa::apps::report
