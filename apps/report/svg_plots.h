// The report's plots, each an inline SVG. What they show is plain text and numbers; series are told
// apart by colour and by shape or dash.
#pragma once

#include <string>
#include <vector>

#include "apps/report/svg.h"

namespace onpa::apps::report {

/// How a series is drawn; `key` is the class that has its colour.
struct SeriesStyle {
  std::string name;
  std::string key;
  bool second = false;  // dashed lines, diamonds, hollow bars
};

/// One line of points with x ascending; points that are not finite are left out.
struct Series {
  SeriesStyle style;
  std::vector<std::pair<double, double>> points;
  std::vector<std::string> tips = {};  // one a point, or none
  bool marks = true;                   // a mark at each point
};

/// `label` describes the plot in words. Without any point an empty text.
std::string line_plot(const std::string& label, const std::string& x_title,
                      const std::string& y_title, const std::vector<Series>& series,
                      bool y_from_zero);

/// Counts over neighbouring bins of one width, `after` in front of `before` (may be empty).
struct Histogram {
  double low = 0, bin_width = 1;
  std::vector<double> before, after;
  std::string before_name, after_name;
  std::string key;  // class of the colour
};
std::string histogram_plot(const std::string& label, const std::string& x_title,
                           const Histogram& histogram);

/// A value with an interval; what is not finite is not drawn.
struct BarValue {
  double value = 0, low = 0, high = 0;
  std::string tip;
};
struct BarRow {
  std::string name;
  bool mark = false;
  std::vector<BarValue> values;  // one a series
};
/// Horizontal bars from 0 to `high`, a group a row; as high as it needs.
std::string bar_plot(const std::string& label, const std::string& x_title, double high,
                     const std::vector<SeriesStyle>& series, const std::vector<BarRow>& rows);

/// kOther is a group that the caption tells of, kMarked the one point that is always named.
enum class PointKind { kPlain, kOther, kMarked };
struct ScatterPoint {
  double x = 0, y = 0;
  std::string name, tip;
  PointKind kind = PointKind::kPlain;
};
/// A square over [low, high] both ways with its diagonal; the points furthest from it are named
/// where there is room.
std::string square_plot(const std::string& label, const std::string& x_title,
                        const std::string& y_title, double low, double high,
                        const std::vector<ScatterPoint>& points);

/// Counts over a square of bins, x by row of `counts`, with the diagonal and the mean y of each x.
std::string heat_plot(const std::string& label, const std::string& x_title,
                      const std::string& y_title, double low, double high,
                      const std::vector<std::vector<double>>& counts, const std::string& key);

/// The key of the series: a drawing of its own, to stand above plots.
std::string legend(const std::vector<SeriesStyle>& series, bool bars);

}  // namespace onpa::apps::report
