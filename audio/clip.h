// Mono audio in memory.
#pragma once

#include <vector>

namespace onpa::audio {

constexpr int kModelRateHz = 32000;  // the rate that the models hear

struct Clip {
  std::vector<float> samples;  // mono, nominally [-1, 1]
  int rate_hz = kModelRateHz;
  double seconds() const { return static_cast<double>(samples.size()) / rate_hz; }
};

}  // namespace onpa::audio
