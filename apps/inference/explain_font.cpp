#include "apps/inference/explain_font.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <sstream>
#include <string_view>
#include <utility>

namespace onpa::apps::figure {
namespace {

constexpr double kUnit = 0.072;    // of the size: capitals are 10 units high
constexpr double kSpacing = 0.45;  // between glyphs, beside what their advance leaves
constexpr double kBearing = 0.9;   // from the pen to a glyph's left edge
constexpr double kArcStep = 20;    // degrees

// A glyph: how far the pen goes on, and commands in units, y up. M x y lifts the pen, L x y draws,
// O cx cy rx ry a b draws an arc between two angles in degrees, A the same without lifting the pen.
struct Glyph {
  double advance;
  const char* path;
};

constexpr std::array<Glyph, 95> kAscii = {{
    {3.6, ""},
    {2.6, "M0 10 L0 3.2 O0 .3 .2 .2 0 360"},
    {4.2, "M0 10 L0 7 M2 10 L2 7"},
    {8.6, "M1.8 0 L3 10 M4.8 0 L6 10 M.4 6.6 L7.2 6.6 M0 3.4 L6.8 3.4"},
    {7.6, "O3 7.4 2.7 2.6 35 270 A3 2.4 3 2.4 90 -145 M3 11.3 L3 -1.3"},
    {10.8, "O1.9 7.7 1.9 2.3 0 360 M7.4 10 L1.8 0 O7.3 2.3 1.9 2.3 0 360"},
    {9, "M7.4 0 L1.4 7.1 A3 8.2 1.9 1.8 210 -35 L.9 3.9 A2.7 2.3 2.5 2.3 135 320 L7 4.6"},
    {2.2, "M0 10 L0 7"},
    {4, "O4.2 4 3.6 7.8 125 235"},
    {4, "O-1.4 4 3.6 7.8 55 -55"},
    {5.8, "M2.2 10 L2.2 5.6 M.3 9 L4.1 6.6 M4.1 9 L.3 6.6"},
    {8, "M0 4.6 L6 4.6 M3 7.6 L3 1.6"},
    {2.8, "M.6 .4 L0 -2"},
    {5, "M0 4 L3.2 4"},
    {2.8, "O.2 .3 .2 .2 0 360"},
    {5.2, "M0 -1.2 L4 10.8"},
    {7.8, "O3 5 3 5 0 360"},
    {7.8, "M.8 8 L3.2 10 L3.2 0"},
    {7.8, "O3 7.1 2.8 2.9 165 -32 L.1 0 L6 0"},
    {7.8, "O2.9 7.5 2.5 2.5 150 -90 A2.9 2.5 3 2.5 90 -150"},
    {7.8, "M4.6 0 L4.6 10 L0 3 L6.3 3"},
    {7.8, "M5.5 10 L1.1 10 L.7 5.5 A2.9 3.2 3.1 3.2 135 -150"},
    {7.8, "O3 3.1 3 3.1 0 360 M0 3.3 A5 3.3 5 6.7 180 90"},
    {7.8, "M0 10 L6 10 L2 0"},
    {7.8, "O3 7.55 2.5 2.45 0 360 O3 2.6 3 2.6 0 360"},
    {7.8, "O3 6.9 3 3.1 0 360 M6 6.7 A1 6.7 5 6.7 0 -90"},
    {2.8, "O.2 .3 .2 .2 0 360 O.2 6.2 .2 .2 0 360"},
    {2.8, "M.6 .4 L0 -2 O.4 6.2 .2 .2 0 360"},
    {7.6, "M5.6 7.8 L0 4.6 L5.6 1.4"},
    {8, "M0 6.1 L6 6.1 M0 3.1 L6 3.1"},
    {7.6, "M0 7.8 L5.6 4.6 L0 1.4"},
    {6.6, "O2.5 7.5 2.5 2.5 165 -45 L2.5 4.2 L2.5 3 O2.5 .3 .2 .2 0 360"},
    {12, "O5 4 2.2 2.6 0 360 M7.2 6.4 L7.2 2.8 A8.5 2.8 1.3 1.5 180 340 A5 4 5 5.8 0 305"},
    {8.4, "M0 0 L3.6 10 L7.2 0 M1.2 3.3 L6 3.3"},
    {8, "M0 5.2 L3.3 5.2 M0 0 L0 10 L3.3 10 A3.3 7.6 2.5 2.4 90 -90 A3.5 2.6 2.9 2.6 90 -90 L0 0"},
    {9, "O4.2 5 4.2 5 45 315"},
    {9.2, "M0 0 L0 10 L2.7 10 A2.7 5 4.7 5 90 -90 L0 0"},
    {7.4, "M5.6 10 L0 10 L0 0 L5.6 0 M0 5.2 L4.9 5.2"},
    {7, "M5.5 10 L0 10 L0 0 M0 5 L4.7 5"},
    {9.8, "O4.3 5 4.3 5 45 315 L7.4 1.4 L7.4 4.7 L4.9 4.7"},
    {8.8, "M0 0 L0 10 M6.8 0 L6.8 10 M0 5.2 L6.8 5.2"},
    {2.6, "M0 0 L0 10"},
    {6.2, "M4.1 10 L4.1 2.6 A2 2.5 2.1 2.5 0 -165"},
    {7.8, "M0 0 L0 10 M6 10 L0 4 M2.2 6.2 L6.3 0"},
    {6.6, "M0 10 L0 0 L5.2 0"},
    {10.2, "M0 0 L0 10 L4.1 2.4 L8.2 10 L8.2 0"},
    {8.8, "M0 0 L0 10 L6.8 0 L6.8 10"},
    {10.6, "O4.4 5 4.4 5 0 360"},
    {7.8, "M0 0 L0 10 L3.2 10 A3.2 7.2 2.8 2.8 90 -90 L0 4.4"},
    {10.6, "O4.4 5 4.4 5 0 360 M5.4 2.6 L8.6 -.8"},
    {8, "M0 0 L0 10 L3.2 10 A3.2 7.3 2.8 2.7 90 -90 L0 4.6 M3.2 4.6 L6.2 0"},
    {7.8, "O3 7.4 2.7 2.6 35 270 A3 2.4 3 2.4 90 -145"},
    {8, "M0 10 L7 10 M3.5 10 L3.5 0"},
    {8.8, "M0 10 L0 3.4 A3.4 3.4 3.4 3.4 180 360 L6.8 10"},
    {8.2, "M0 10 L3.6 0 L7.2 10"},
    {11.8, "M0 10 L2.6 0 L5.3 9.6 L8 0 L10.6 10"},
    {8, "M0 10 L6.8 0 M6.8 10 L0 0"},
    {8, "M0 10 L3.5 4.8 L7 10 M3.5 4.8 L3.5 0"},
    {8, "M0 10 L6.4 10 L0 0 L6.4 0"},
    {4, "M2.2 11 L0 11 L0 -2.4 L2.2 -2.4"},
    {5.2, "M0 10.8 L4 -1.2"},
    {4, "M0 11 L2.2 11 L2.2 -2.4 L0 -2.4"},
    {6.6, "M0 6 L2.4 10 L4.8 6"},
    {6.6, "M0 -1.6 L5.4 -1.6"},
    {4, "M0 10.4 L1.6 8.6"},
    {7.6, "O2.9 3.5 2.9 3.5 0 360 M5.8 7 L5.8 0"},
    {7.6, "M0 10.4 L0 0 O2.9 3.5 2.9 3.5 0 360"},
    {6.6, "O3 3.5 3 3.5 50 310"},
    {7.6, "O2.9 3.5 2.9 3.5 0 360 M5.8 10.4 L5.8 0"},
    {7.4, "M.1 3.7 L5.8 3.7 A2.95 3.5 2.9 3.5 3 312"},
    {4.6, "M1.5 0 L1.5 8 A3.6 8 2.1 2.4 180 75 M0 7 L3.6 7"},
    {7.6, "O2.9 3.5 2.9 3.5 0 360 M5.8 7 L5.8 -.2 A2.9 -.2 2.9 2.8 0 -155"},
    {7.2, "M0 10.4 L0 0 M0 4.2 A2.65 4.2 2.65 2.8 180 0 L5.3 0"},
    {2.6, "M0 0 L0 7 O0 9.6 .2 .2 0 360"},
    {3.4, "M1 7 L1 -1 A-1 -1 2 2 0 -75 O1 9.6 .2 .2 0 360"},
    {6.6, "M0 10.4 L0 0 M4.7 7 L0 2.7 M1.7 4.2 L5 0"},
    {2.6, "M0 10.4 L0 0"},
    {10.8, "M0 0 L0 7 M0 4.5 A2.2 4.5 2.2 2.5 180 0 L4.4 0 M4.4 4.5 A6.6 4.5 2.2 2.5 180 0 L8.8 0"},
    {7.2, "M0 0 L0 7 M0 4.2 A2.65 4.2 2.65 2.8 180 0 L5.3 0"},
    {7.6, "O3 3.5 3 3.5 0 360"},
    {7.6, "M0 7 L0 -3 O2.9 3.5 2.9 3.5 0 360"},
    {7.6, "O2.9 3.5 2.9 3.5 0 360 M5.8 7 L5.8 -3"},
    {5, "M0 0 L0 7 M0 4.2 A2.6 4.2 2.6 2.8 180 65"},
    {6.2, "O2.3 5.2 2.1 1.8 35 270 A2.3 1.7 2.3 1.7 90 -145"},
    {5, "M1.5 9.4 L1.5 1.8 A3.3 1.8 1.8 1.8 180 285 M0 7 L3.6 7"},
    {7.2, "M0 7 L0 2.8 A2.65 2.8 2.65 2.8 180 360 M5.3 7 L5.3 0"},
    {6.8, "M0 7 L2.8 0 L5.6 7"},
    {9.6, "M0 7 L2.1 0 L4.2 6.6 L6.3 0 L8.4 7"},
    {6.6, "M0 7 L5 0 M5 7 L0 0"},
    {6.8, "M0 7 L2.9 .2 M5.7 7 L2.3 -1.8 L1.5 -2.9 L.3 -2.9"},
    {6.4, "M0 7 L4.8 7 L0 0 L4.8 0"},
    {4.4, "M2.8 11 L1.6 10 L1.6 5.6 L.2 4.3 L1.6 3 L1.6 -1.4 L2.8 -2.4"},
    {2.6, "M0 11 L0 -2.6"},
    {4.4, "M0 11 L1.2 10 L1.2 5.6 L2.6 4.3 L1.2 3 L1.2 -1.4 L0 -2.4"},
    {7.8, "O1.5 4 1.5 1.2 180 0 A4.5 4 1.5 1.2 180 360"},
}};

constexpr Glyph kBox = {7.8, "M0 0 L6 0 L6 10 L0 10 L0 0"};

const std::map<char32_t, Glyph>& signs() {
  static const std::map<char32_t, Glyph> glyphs = {
      {U'−', {8, "M0 4.6 L6 4.6"}},
      {U'–', {7.6, "M0 4 L5.8 4"}},
      {U'·', {3, "O.3 4.4 .2 .2 0 360"}},
      {U'×', {8, "M.5 7.1 L5.5 2.1 M5.5 7.1 L.5 2.1"}},
      {U'…', {9, "O.2 .3 .2 .2 0 360 O3.4 .3 .2 .2 0 360 O6.6 .3 .2 .2 0 360"}},
      {U'≥', {7.6, "M0 8.6 L5.6 5.8 L0 3 M0 .8 L5.6 .8"}},
      {U'≤', {7.6, "M5.6 8.6 L0 5.8 L5.6 3 M0 .8 L5.6 .8"}},
  };
  return glyphs;
}

// The letters of U+00C0 to U+00FF without their accents; '?': not such a letter.
constexpr std::string_view kLatin1 =
    "AAAAAA?CEEEEIIII?NOOOOO?OUUUUY??aaaaaa?ceeeeiiii?nooooo?ouuuuy?y";
constexpr char32_t kFirstLatin1 = 0xc0;

Glyph glyph_of(char32_t c) {
  if (c >= 0x20 && c < 0x7f) return kAscii[c - 0x20];
  if (const auto found = signs().find(c); found != signs().end()) return found->second;
  if (c >= kFirstLatin1 && c < kFirstLatin1 + kLatin1.size()) {
    const char plain = kLatin1[c - kFirstLatin1];
    if (plain != '?') return glyph_of(static_cast<unsigned char>(plain));
  }
  return kBox;
}

// A mark that is put on the letter before it.
bool is_combining(char32_t c) {
  return c >= 0x300 && c < 0x370;
}

// Code points; a byte that is no UTF-8 is U+FFFD.
std::vector<char32_t> decode(const std::string& text) {
  std::vector<char32_t> out;
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t length = first < 0x80       ? 1
                               : first >> 5 == 6  ? 2
                               : first >> 4 == 14 ? 3
                               : first >> 3 == 30 ? 4
                                                  : 0;
    char32_t c = length == 1 ? first : first & (0x7f >> length);
    bool whole = length > 0 && i + length <= text.size();
    for (std::size_t k = 1; whole && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      whole = next >> 6 == 2;
      c = c << 6 | (next & 0x3f);
    }
    out.push_back(whole ? c : 0xfffd);
    i += whole ? length : 1;
  }
  return out;
}

// Reads a glyph's path into lines, in units, y up, from x = 0.
class PathReader {
 public:
  explicit PathReader(const char* path) : in_(spaced(path)) {}

  std::vector<std::vector<Point>> read() {
    char command = 0;
    while (in_ >> command) {
      if (command == 'M' || command == 'O') lines_.emplace_back();
      if (command == 'M' || command == 'L') {
        const double x = number();
        lines_.back().push_back({x, number()});
      } else {
        arc();
      }
    }
    return std::move(lines_);
  }

 private:
  // A space after each letter, so that numbers and letters are read alike.
  static std::string spaced(const char* path) {
    std::string out;
    for (; *path != 0; ++path) {
      out += *path;
      if (*path >= 'A' && *path <= 'Z') out += ' ';
    }
    return out;
  }
  double number() {
    double value = 0;
    in_ >> value;
    return value;
  }
  void arc() {
    const double cx = number(), cy = number(), rx = number(), ry = number();
    const double from = number(), to = number();
    const int steps = static_cast<int>(std::ceil(std::abs(to - from) / kArcStep));
    for (int i = 0; i <= steps; ++i) {
      const double angle = (from + (to - from) * i / steps) * std::numbers::pi / 180;
      lines_.back().push_back({cx + rx * std::cos(angle), cy + ry * std::sin(angle)});
    }
  }

  std::istringstream in_;
  std::vector<std::vector<Point>> lines_;
};

}  // namespace

Strokes text_strokes(const std::string& utf8, double size) {
  Strokes out;
  const double unit = kUnit * size;
  for (const char32_t c : decode(utf8)) {
    if (is_combining(c)) continue;
    const Glyph glyph = glyph_of(c);
    for (std::vector<Point>& line : PathReader(glyph.path).read()) {
      for (Point& p : line) p = {out.width + (kBearing + p.x) * unit, -p.y * unit};
      out.lines.push_back(std::move(line));
    }
    out.width += (glyph.advance + kSpacing) * unit;
  }
  return out;
}

}  // namespace onpa::apps::figure
