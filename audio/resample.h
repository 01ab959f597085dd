// Change of sampling rate by a whole-number ratio. Private to audio/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace onpa::audio {

/// Samples that `samples` at `from_hz` become at `to_hz`: ceil(samples * to_hz / from_hz).
std::int64_t resampled_length(std::int64_t samples, int from_hz, int to_hz);

/// Windowed-sinc resampling with an exact rational ratio: sample m of the result is the
/// band-limited input at time m / to_hz, so there is no delay and no state, and the length is
/// resampled_length(). Flat within 0.01 dB up to 0.92 of the lower Nyquist frequency; what folds
/// back is 90 dB down below 0.94 of it (the mel bands end at 15 of 16 kHz). Rates >= 1.
std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz);

}  // namespace onpa::audio
