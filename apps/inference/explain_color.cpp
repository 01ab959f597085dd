#include "apps/inference/explain_color.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>

namespace onpa::apps::figure {
namespace {

struct Lch {
  double lightness, chroma, hue;  // hue in degrees
};
struct Lab {
  double l, a, b;
};

// Lightness rises by the same step everywhere; the hues stay clear of red beside green.
constexpr std::array<Lch, 7> kSequential = {{{0.20, 0.075, 290},
                                             {0.325, 0.115, 275},
                                             {0.45, 0.105, 250},
                                             {0.575, 0.095, 215},
                                             {0.70, 0.115, 168},
                                             {0.825, 0.155, 130},
                                             {0.95, 0.145, 106}}};
constexpr std::array<Lch, 7> kDiverging = {{{0.38, 0.130, 262},
                                            {0.56, 0.130, 250},
                                            {0.77, 0.085, 240},
                                            {0.97, 0.004, 90},
                                            {0.79, 0.105, 68},
                                            {0.61, 0.150, 50},
                                            {0.43, 0.125, 38}}};

Lab lab_of(const Lch& c) {
  const double angle = c.hue * std::numbers::pi / 180;
  return {c.lightness, c.chroma * std::cos(angle), c.chroma * std::sin(angle)};
}

// A channel of linear light as sRGB stores it.
std::uint8_t stored(double linear) {
  const double x = std::clamp(linear, 0.0, 1.0);
  const double y = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;
  return static_cast<std::uint8_t>(std::lround(255 * y));
}

// OKLab to sRGB, B. Ottosson 2020.
Rgb rgb_of(const Lab& c) {
  const auto cube = [](double x) { return x * x * x; };
  const double l = cube(c.l + 0.3963377774 * c.a + 0.2158037573 * c.b);
  const double m = cube(c.l - 0.1055613458 * c.a - 0.0638541728 * c.b);
  const double s = cube(c.l - 0.0894841775 * c.a - 1.2914855480 * c.b);
  return {stored(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          stored(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          stored(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

Rgb between(std::span<const Lch> points, double share) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(points.size() - 1);
  const auto i = std::min(static_cast<std::size_t>(at), points.size() - 2);
  const double part = at - static_cast<double>(i);
  const Lab from = lab_of(points[i]), to = lab_of(points[i + 1]);
  return rgb_of({from.l + part * (to.l - from.l), from.a + part * (to.a - from.a),
                 from.b + part * (to.b - from.b)});
}

}  // namespace

Rgb sequential_color(double share) {
  return between(kSequential, share);
}

Rgb diverging_color(double share) {
  return between(kDiverging, (share + 1) / 2);
}

}  // namespace onpa::apps::figure
