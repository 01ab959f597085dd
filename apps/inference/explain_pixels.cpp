// A canvas of pixels, with edges smoothed by how much of a pixel they cover.
#include <png.h>

#include <algorithm>
#include <cmath>

#include "apps/inference/explain_canvas.h"
#include "apps/inference/explain_font.h"
#include "kernels/error.h"

namespace onpa::apps::figure {
namespace {

constexpr int kScanlines = 4;  // of a polygon, a row of pixels

double length_of(Point p) {
  return std::hypot(p.x, p.y);
}

double distance_to_segment(Point p, Point a, Point b) {
  const Point ab{b.x - a.x, b.y - a.y}, ap{p.x - a.x, p.y - a.y};
  const double square = ab.x * ab.x + ab.y * ab.y;
  const double along = square > 0 ? std::clamp((ap.x * ab.x + ap.y * ab.y) / square, 0.0, 1.0) : 0;
  return length_of({ap.x - along * ab.x, ap.y - along * ab.y});
}

// How much of [i, i + 1] lies in [from, to].
double overlap(std::int64_t i, double from, double to) {
  const auto at = static_cast<double>(i);
  return std::max(0.0, std::min(to, at + 1) - std::max(from, at));
}

class PngCanvas : public Canvas {
 public:
  PngCanvas(double width, double height) {
    sheet_.width = std::llround(width * kPngScale);
    sheet_.height = std::llround(height * kPngScale);
    sheet_.pixels.assign(static_cast<std::size_t>(sheet_.width * sheet_.height), {255, 255, 255});
  }

  void rect(const Box& box, Rgb fill) override {
    polygon({{box.left, box.top},
             {box.right(), box.top},
             {box.right(), box.bottom()},
             {box.left, box.bottom()}},
            fill);
  }

  void line(Point from, Point to, double width, Rgb color) override {
    stroke({scaled(from), scaled(to)}, width * kPngScale, color);
  }

  // By scan lines: inside is where an odd number of edges lies to the left.
  void polygon(const std::vector<Point>& corners, Rgb fill) override {
    std::vector<double> crossings, cover(static_cast<std::size_t>(sheet_.width));
    for (std::int64_t row = 0; row < sheet_.height; ++row) {
      std::fill(cover.begin(), cover.end(), 0);
      bool any = false;
      for (int k = 0; k < kScanlines; ++k) {
        const double y = static_cast<double>(row) + (k + 0.5) / kScanlines;
        crossings.clear();
        for (std::size_t i = 0; i < corners.size(); ++i) {
          const Point a = scaled(corners[i]), b = scaled(corners[(i + 1) % corners.size()]);
          if ((a.y <= y) == (b.y <= y)) continue;
          crossings.push_back(a.x + (y - a.y) / (b.y - a.y) * (b.x - a.x));
        }
        std::sort(crossings.begin(), crossings.end());
        for (std::size_t i = 0; i + 1 < crossings.size(); i += 2) {
          any = true;
          add_span(cover, crossings[i], crossings[i + 1]);
        }
      }
      for (std::int64_t x = 0; any && x < sheet_.width; ++x) {
        blend(x, row, fill, cover[static_cast<std::size_t>(x)]);
      }
    }
  }

  void text(Point at, Anchor anchor, const TextStyle& style, const std::string& text) override {
    Strokes strokes = text_strokes(text, style.size);
    const double share = anchor == Anchor::kStart ? 0 : anchor == Anchor::kMiddle ? 0.5 : 1;
    const double pen = style.size * (style.bold ? 0.125 : 0.082) * kPngScale;
    for (std::vector<Point>& line : strokes.lines) {
      for (Point& p : line) p = scaled({p.x + at.x - share * strokes.width, p.y + at.y});
      stroke(line, pen, style.color);
    }
  }

  // Each pixel is the mean of what it covers of the raster.
  void image(const Box& box, const Raster& raster) override {
    const Point corner = scaled({box.left, box.top});
    const auto left = std::llround(corner.x), top = std::llround(corner.y);
    const auto width = std::llround(box.width * kPngScale);
    const auto height = std::llround(box.height * kPngScale);
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const double step_x = static_cast<double>(raster.width) / static_cast<double>(width);
        const double step_y = static_cast<double>(raster.height) / static_cast<double>(height);
        blend(left + x, top + y,
              mean_of(raster, static_cast<double>(x) * step_x, step_x,
                      static_cast<double>(y) * step_y, step_y),
              1);
      }
    }
  }

  std::string finish() override { return encode_png(sheet_); }

 private:
  static Point scaled(Point p) { return {p.x * kPngScale, p.y * kPngScale}; }

  void add_span(std::vector<double>& cover, double from, double to) const {
    const double last = static_cast<double>(sheet_.width);
    from = std::clamp(from, 0.0, last);
    to = std::clamp(to, 0.0, last);
    for (auto x = static_cast<std::int64_t>(from); x < sheet_.width && static_cast<double>(x) < to;
         ++x) {
      cover[static_cast<std::size_t>(x)] += overlap(x, from, to) / kScanlines;
    }
  }

  static Rgb mean_of(const Raster& raster, double x, double width, double y, double height) {
    double sum = 0, r = 0, g = 0, b = 0;
    for (auto j = static_cast<std::int64_t>(y); j < raster.height; ++j) {
      const double down = overlap(j, y, y + height);
      if (down <= 0) break;
      for (auto i = static_cast<std::int64_t>(x); i < raster.width; ++i) {
        const double weight = down * overlap(i, x, x + width);
        if (weight <= 0) break;
        const Rgb c = raster.pixels[static_cast<std::size_t>(j * raster.width + i)];
        sum += weight;
        r += weight * c.r;
        g += weight * c.g;
        b += weight * c.b;
      }
    }
    const auto channel = [sum](double value) {
      return static_cast<std::uint8_t>(sum > 0 ? std::lround(value / sum) : 0);
    };
    return {channel(r), channel(g), channel(b)};
  }

  // A line of this width, in pixels, with round ends and corners.
  void stroke(const std::vector<Point>& line, double width, Rgb color) {
    double left = INFINITY, right = -INFINITY, top = INFINITY, bottom = -INFINITY;
    for (const Point& p : line) {
      left = std::min(left, p.x - width);
      right = std::max(right, p.x + width);
      top = std::min(top, p.y - width);
      bottom = std::max(bottom, p.y + width);
    }
    const auto first_x = std::max<std::int64_t>(0, std::llround(left) - 1);
    const auto first_y = std::max<std::int64_t>(0, std::llround(top) - 1);
    const auto end_x = std::min<std::int64_t>(sheet_.width, std::llround(right) + 1);
    const auto end_y = std::min<std::int64_t>(sheet_.height, std::llround(bottom) + 1);
    for (std::int64_t y = first_y; y < end_y; ++y) {
      for (std::int64_t x = first_x; x < end_x; ++x) {
        const Point centre{static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5};
        double distance = INFINITY;
        for (std::size_t i = 0; i + 1 < line.size(); ++i) {
          distance = std::min(distance, distance_to_segment(centre, line[i], line[i + 1]));
        }
        blend(x, y, color, std::clamp(width / 2 + 0.5 - distance, 0.0, 1.0));
      }
    }
  }

  void blend(std::int64_t x, std::int64_t y, Rgb color, double cover) {
    if (cover <= 0 || x < 0 || y < 0 || x >= sheet_.width || y >= sheet_.height) return;
    Rgb& pixel = sheet_.pixels[static_cast<std::size_t>(y * sheet_.width + x)];
    const auto mix = [cover](std::uint8_t under, std::uint8_t over) {
      return static_cast<std::uint8_t>(
          std::lround(under + std::min(cover, 1.0) * (static_cast<double>(over) - under)));
    };
    pixel = {mix(pixel.r, color.r), mix(pixel.g, color.g), mix(pixel.b, color.b)};
  }

  Raster sheet_;
};

}  // namespace

std::unique_ptr<Canvas> png_canvas(double width, double height) {
  return std::make_unique<PngCanvas>(width, height);
}

std::string encode_png(const Raster& raster) {
  static_assert(sizeof(Rgb) == 3);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(raster.width);
  image.height = static_cast<png_uint_32>(raster.height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string out(bytes, '\0');
  if (png_image_write_to_memory(&image, out.data(), &bytes, 0, raster.pixels.data(), 0, nullptr) ==
      0) {
    fail(ExitCode::kInternal, "png: ", image.message);
  }
  out.resize(bytes);
  return out;
}

}  // namespace onpa::apps::figure
