// Inline SVG for the report: shapes with tooltips, linear axes whose labels do not overlap.
// Lengths are in the units of a drawing that is kPlotWidth wide, about a CSS pixel on a phone.
// Colours, fonts and dashes belong to the page's style sheet; shapes only name classes.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace onpa::apps::report {

constexpr double kPlotWidth = 340;

/// A drawing. Text and tooltips are plain; they are escaped here.
class Svg {
 public:
  /// `label` says in words what the drawing shows.
  Svg(double width, double height, const std::string& label);

  void line(double x1, double y1, double x2, double y2, const std::string& classes);
  void rect(double x, double y, double width, double height, const std::string& classes,
            const std::string& tip = "");
  void circle(double x, double y, double radius, const std::string& classes,
              const std::string& tip = "");
  /// A square on its corner, as high as a circle of this radius.
  void diamond(double x, double y, double radius, const std::string& classes,
               const std::string& tip = "");
  void polyline(const std::vector<std::pair<double, double>>& points, const std::string& classes);
  /// anchor: start, middle or end.
  void text(double x, double y, const char* anchor, const std::string& classes,
            const std::string& content);
  std::string finish() const;

 private:
  void close(const char* element, const std::string& tip);
  std::string out_;
};

/// Maps [low, high] to [from, to] (to may be less than from).
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  double operator()(double value) const {
    return from + (value - low) / (high - low) * (to - from);
  }
};

/// Marks of an axis: round values, the same number of digits in all labels.
struct Ticks {
  std::vector<double> values;
  std::vector<std::string> labels;
};

/// About how wide a label is drawn.
double text_width(const std::string& text);
/// As many marks from low to high as fit side by side (`pixels` wide) or one above the other,
/// seven at most; finite low < high.
Ticks fit_ticks(double low, double high, double pixels, bool side_by_side);
/// The smallest range with round ends that holds both; wider if they are equal.
std::pair<double, double> round_range(double low, double high);

/// An axis: what it shows, with its unit, and its range.
struct Axis {
  std::string title;
  double low = 0, high = 1;
};

/// A rectangle to plot in, with both axes drawn: grid, labels, titles.
struct Frame {
  Scale x, y;
  /// The plot's area is [left, right] x [top, bottom].
  Frame(Svg& svg, const Axis& x_axis, const Axis& y_axis, double left, double right, double top,
        double bottom);
};

}  // namespace onpa::apps::report
