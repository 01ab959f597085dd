#include "apps/report/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "apps/report/report_text.h"

namespace onpa::apps::report {
namespace {

constexpr double kCharacterWidth = 6.2;  // of the labels' font, on average
constexpr double kLineHeight = 15;
constexpr double kGap = 8;  // between labels side by side
constexpr int kMostTicks = 7;

std::string number(double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.1f", value);
  std::string out = text.data();
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out == "-0" ? "0" : out;
}

std::string attribute(const char* name, double value) {
  return std::string(" ") + name + "=\"" + number(value) + "\"";
}

std::string class_attribute(const std::string& classes) {
  return classes.empty() ? "" : " class=\"" + classes + "\"";
}

// 1, 2 or 5 times a power of ten, the smallest that is at least `least`.
double round_step(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string tick_label(double value, double step) {
  const double size = std::max(std::abs(value), step);
  if (size >= 1e6 || step < 1e-6) return significant(value, 3);
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return digits == 0 ? grouped(value) : fixed(value, digits);
}

Ticks ticks_with_step(double low, double high, double step) {
  Ticks out;
  const double slack = 1e-9 * (high - low);
  for (double i = std::ceil((low - slack) / step); i * step <= high + slack; ++i) {
    out.values.push_back(i * step);
    out.labels.push_back(tick_label(i * step, step));
  }
  return out;
}

bool fits(const Ticks& ticks, double low, double high, double pixels, bool side_by_side) {
  for (std::size_t i = 1; i < ticks.values.size(); ++i) {
    const double apart = (ticks.values[i] - ticks.values[i - 1]) / (high - low) * pixels;
    const double needed =
        side_by_side ? (text_width(ticks.labels[i]) + text_width(ticks.labels[i - 1])) / 2 + kGap
                     : kLineHeight;
    if (apart < needed) return false;
  }
  return true;
}

}  // namespace

Svg::Svg(double width, double height, const std::string& label) {
  out_ = "<svg class=\"plot\" viewBox=\"0 0 " + number(width) + " " + number(height) +
         "\" role=\"img\" aria-label=\"" + escape(label) + "\">\n";
}

void Svg::close(const char* element, const std::string& tip) {
  if (tip.empty()) {
    out_ += "/>\n";
  } else {
    out_ += "><title>" + escape(tip) + "</title></" + element + ">\n";
  }
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& classes) {
  out_ += "<line" + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) +
          attribute("y2", y2) + class_attribute(classes) + "/>\n";
}

void Svg::rect(double x, double y, double width, double height, const std::string& classes,
               const std::string& tip) {
  out_ += "<rect" + attribute("x", x) + attribute("y", y) +
          attribute("width", std::max(0.0, width)) + attribute("height", std::max(0.0, height)) +
          class_attribute(classes);
  close("rect", tip);
}

void Svg::circle(double x, double y, double radius, const std::string& classes,
                 const std::string& tip) {
  out_ += "<circle" + attribute("cx", x) + attribute("cy", y) + attribute("r", radius) +
          class_attribute(classes);
  close("circle", tip);
}

void Svg::diamond(double x, double y, double radius, const std::string& classes,
                  const std::string& tip) {
  const auto point = [](double px, double py) { return number(px) + " " + number(py); };
  out_ += "<path d=\"M" + point(x, y - radius) + "L" + point(x + radius, y) + "L" +
          point(x, y + radius) + "L" + point(x - radius, y) + "Z\"" + class_attribute(classes);
  close("path", tip);
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points,
                   const std::string& classes) {
  out_ += "<polyline points=\"";
  for (std::size_t i = 0; i < points.size(); ++i) {
    out_ += (i > 0 ? " " : "") + number(points[i].first) + "," + number(points[i].second);
  }
  out_ += "\"" + class_attribute(classes) + "/>\n";
}

void Svg::text(double x, double y, const char* anchor, const std::string& classes,
               const std::string& content) {
  out_ += "<text" + attribute("x", x) + attribute("y", y) + " text-anchor=\"" + anchor + "\"" +
          class_attribute(classes) + ">" + escape(content) + "</text>\n";
}

std::string Svg::finish() const {
  return out_ + "</svg>\n";
}

double text_width(const std::string& text) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  });
  return kCharacterWidth * static_cast<double>(characters);
}

Ticks fit_ticks(double low, double high, double pixels, bool side_by_side) {
  for (int most = kMostTicks; most > 1; --most) {
    const double step = round_step((high - low) / most);
    const Ticks ticks = ticks_with_step(low, high, step);
    if (fits(ticks, low, high, pixels, side_by_side)) return ticks;
  }
  return {};
}

std::pair<double, double> round_range(double low, double high) {
  if (!(high > low)) {
    const double room = std::max(std::abs(low) * 0.1, 1e-3);
    return {low - room, low + room};
  }
  const double step = round_step((high - low) / kMostTicks);
  return {std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step};
}

Frame::Frame(Svg& svg, const Axis& x_axis, const Axis& y_axis, double left, double right,
             double top, double bottom)
    : x{x_axis.low, x_axis.high, left, right}, y{y_axis.low, y_axis.high, bottom, top} {
  const Ticks across = fit_ticks(x.low, x.high, right - left, true);
  for (std::size_t i = 0; i < across.values.size(); ++i) {
    const double at = x(across.values[i]);
    svg.line(at, top, at, bottom, "grid");
    svg.text(at, bottom + 15, "middle", "tick", across.labels[i]);
  }
  const Ticks up = fit_ticks(y.low, y.high, bottom - top, false);
  for (std::size_t i = 0; i < up.values.size(); ++i) {
    const double at = y(up.values[i]);
    svg.line(left, at, right, at, "grid");
    svg.text(left - 6, at + 4, "end", "tick", up.labels[i]);
  }
  svg.line(left, bottom, right, bottom, "axis");
  svg.text((left + right) / 2, bottom + 32, "middle", "axis-title", x_axis.title);
  svg.text(2, top - 10, "start", "axis-title", y_axis.title);
}

}  // namespace onpa::apps::report
