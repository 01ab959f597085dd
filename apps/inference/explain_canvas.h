// A sheet that a figure is drawn on: as SVG, or as pixels for a PNG. Lengths are in units of a CSS
// pixel, y down; a PNG has kPngScale pixels a unit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace onpa::apps::figure {

constexpr int kPngScale = 2;

struct Rgb {
  std::uint8_t r = 0, g = 0, b = 0;
};
struct Point {
  double x = 0, y = 0;
};
struct Box {
  double left = 0, top = 0, width = 0, height = 0;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

/// Rows from the top.
struct Raster {
  std::int64_t width = 0, height = 0;
  std::vector<Rgb> pixels;
};

enum class Anchor : std::uint8_t { kStart, kMiddle, kEnd };
struct TextStyle {
  double size = 12;
  Rgb color = {};
  bool bold = false;
};

class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void rect(const Box& box, Rgb fill) = 0;
  virtual void line(Point from, Point to, double width, Rgb color) = 0;
  virtual void polygon(const std::vector<Point>& corners, Rgb fill) = 0;
  /// `at` is on the base line. Plain UTF-8 text.
  virtual void text(Point at, Anchor anchor, const TextStyle& style, const std::string& text) = 0;
  /// Stretched to fill the box.
  virtual void image(const Box& box, const Raster& raster) = 0;
  /// The bytes of the file.
  virtual std::string finish() = 0;
};

/// `label` says in words what is drawn.
std::unique_ptr<Canvas> svg_canvas(double width, double height, const std::string& label);
std::unique_ptr<Canvas> png_canvas(double width, double height);

/// Throws Error (kOutOfMemory, kInternal).
std::string encode_png(const Raster& raster);

}  // namespace onpa::apps::figure
