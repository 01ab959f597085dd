// Colour maps that are even in lightness, so that they read the same to a colour-blind eye and in
// grey. Both are lines between control points in OKLCH (lightness, chroma, hue).
#pragma once

#include "apps/inference/explain_canvas.h"

namespace onpa::apps::figure {

/// From dark blue over green to light yellow; share in [0, 1], clamped.
Rgb sequential_color(double share);
/// From blue over near white to orange; share in [-1, 1], clamped.
Rgb diverging_color(double share);

}  // namespace onpa::apps::figure
