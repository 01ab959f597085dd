// Change of sampling rate by a whole-number ratio. Private to audio/.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace onpa::audio {

/// Samples that `samples` at `from_hz` become at `to_hz`: ceil(samples * to_hz / from_hz).
std::int64_t resampled_length(std::int64_t samples, int from_hz, int to_hz);

/// Whether the filter between two rates has a reasonable size. It grows with their smallest ratio
/// in whole numbers: any rate up to 172 kHz goes to 32 kHz, a higher one if it shares a divisor
/// with it, as those do that anyone records at.
bool can_resample(int from_hz, int to_hz);

/// Windowed-sinc resampling with an exact rational ratio: sample m of the result is the
/// band-limited input at time m / to_hz, so there is no delay and no state, and the length is
/// resampled_length(). Flat within 0.01 dB up to 0.92 of the lower Nyquist frequency; what folds
/// back is 90 dB down below 0.94 of it (the mel bands end at 15 of 16 kHz). Rates >= 1.
std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz);

/// The same of a wave that comes in parts: what push() and finish() append is, to the bit, what
/// resample() makes of the whole, in memory that does not grow with it.
class StreamResampler {
 public:
  StreamResampler(int from_hz, int to_hz);
  ~StreamResampler();
  StreamResampler(const StreamResampler&) = delete;
  StreamResampler& operator=(const StreamResampler&) = delete;

  void push(std::span<const float> wave, std::vector<float>& out);
  void finish(std::vector<float>& out);

 private:
  friend std::vector<float> resample(std::span<const float> wave, int from_hz, int to_hz);
  class Periods;
  static void run_whole(std::span<const float> wave, int from_hz, int to_hz, std::int64_t count,
                        std::vector<float>& out);
  int from_hz_, to_hz_;
  std::unique_ptr<Periods> periods_;  // null where the rates are equal
  std::vector<float> held_;           // input from first_ on
  std::int64_t first_ = 0;
};

}  // namespace onpa::audio
