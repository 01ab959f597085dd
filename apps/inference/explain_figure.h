// The figure of an explanation: the log-mel spectrogram, the map under it on the same time axis,
// and its margins over time and frequency.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "audio/mel.h"
#include "tensor/tensor.h"

namespace onpa::apps::figure {

struct Figure {
  std::string title, subtitle, note;  // note: a line below
  audio::MelConfig front_end;
  double from_s = 0;  // of the clip, where the map begins
  Tensor mel;         // (mels, frames), the front end's values

  Tensor map;                                     // (mels, frames)
  std::int64_t heard_mels = 0, heard_frames = 0;  // that patches cover; the rest is left grey
  std::string map_title, map_unit;
  bool with_signs = false;  // about 0, in two colours

  std::vector<double> over_time, over_frequency;  // (frames), (mels)
  std::string time_title, frequency_title;

  double seconds() const;
};

/// The bytes of an SVG, or a PNG. Colours end at the 0.5 % of values that are furthest out.
std::string draw_svg(const Figure& figure);
std::string draw_png(const Figure& figure);

/// Where a frequency lies among the mel bands: 0 at the lower edge of the lowest cell, 1 at the
/// upper edge of the highest.
double mel_position(const audio::MelConfig& config, double hz);

/// The frequency at the centre of a band, in Hz.
double band_centre_hz(const audio::MelConfig& config, std::int64_t band);

}  // namespace onpa::apps::figure
