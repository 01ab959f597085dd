#include <algorithm>
#include <cmath>

#include "kernels/mel.h"

namespace onpa::kernels {
namespace {

double mel_of_hz(double hz) {
  return 1127.0 * std::log(1.0 + hz / 700.0);
}

}  // namespace

MelBank make_mel_bank(int mels, int n_fft, float rate_hz, float fmin_hz, float fmax_hz) {
  const double bin_hz = static_cast<double>(rate_hz) / n_fft;
  const double low = mel_of_hz(fmin_hz), step = (mel_of_hz(fmax_hz) - low) / (mels + 1);
  const int bins = n_fft / 2;  // the Nyquist bin has no weight

  MelBank bank{.first = {}, .offset = {0}, .weight = {}, .fmin_hz = fmin_hz, .fmax_hz = fmax_hz};
  for (int row = 0; row < mels; ++row) {
    const double left = low + row * step, centre = left + step, right = centre + step;
    int first = 0;
    for (int k = 0; k < bins; ++k) {
      const double mel = mel_of_hz(bin_hz * k);
      const double weight =
          std::min((mel - left) / (centre - left), (right - mel) / (right - centre));
      if (weight <= 0) continue;
      if (static_cast<std::int32_t>(bank.weight.size()) == bank.offset.back()) first = k;
      bank.weight.push_back(static_cast<float>(weight));
    }
    bank.first.push_back(first);
    bank.offset.push_back(static_cast<std::int32_t>(bank.weight.size()));
  }
  return bank;
}

}  // namespace onpa::kernels
