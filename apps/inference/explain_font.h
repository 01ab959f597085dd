// Letters as strokes, for text in a PNG: no font has to be installed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/inference/explain_canvas.h"

namespace onpa::apps::figure {

/// Pen lines of a text from x = 0 on the base line y = 0, y down, for a font of `size` units. ASCII
/// and some signs; a Latin letter with an accent is drawn without it, other characters as a box.
struct Strokes {
  std::vector<std::vector<Point>> lines;
  double width = 0;  // how far the pen has come
};
Strokes text_strokes(const std::string& utf8, double size);

}  // namespace onpa::apps::figure
