// The fused mel front end: waveform in, normalised log-mel out.
// Source: the front end of PaSST (arXiv:2110.05069); filterbank as
// torchaudio.compliance.kaldi.get_mel_banks.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace onpa::kernels {

/// A triangular filterbank kept as its non-zero band per row.
struct MelBank {
  std::vector<std::int32_t> first;   // (mels): first FFT bin with weight
  std::vector<std::int32_t> offset;  // (mels + 1): where the row starts in `weight`
  std::vector<float> weight;
  float fmin_hz = 0, fmax_hz = 0;
};

/// Kaldi mel bank: triangles linear in mel = 1127 ln(1 + f / 700), peak 1, Nyquist bin 0.
/// mels >= 1, 0 <= fmin_hz < fmax_hz <= rate_hz / 2.
MelBank make_mel_bank(int mels, int n_fft, float rate_hz, float fmin_hz, float fmax_hz);

/// SpecAugment of one clip: cells [f0, f0 + f_len) x all frames and all mels x [t0, t0 + t_len)
/// become 0 in the log domain. Zero lengths mask nothing.
struct MelMask {
  std::int32_t f0 = 0, f_len = 0, t0 = 0, t_len = 0;
};

/// Pre-emphasis y[i] = x[i + 1] - preemphasis * x[i]; frames of 1024 every `hop` samples, centred,
/// reflected at the edges; symmetric Hann window of `win` samples; power spectrum; mel bank;
/// ln(. + log_offset); masks; (. - mean) / std.
struct MelFwd {
  const float* wave;  // (batch, samples), [-1, 1]
  float* y;           // (batch, mels, frames)
  const MelBank* bank;
  const MelMask* mask;          // (batch) or null
  std::int64_t batch, samples;  // samples > 514: reflection needs samples - 1 > n_fft / 2
  std::int64_t mels, frames;    // frames = 1 + (samples - 1) / hop
  std::int64_t win, hop;        // win <= 1024
  float preemphasis, log_offset, mean, std;
};
constexpr std::int64_t kMelFft = 1024;
void mel_fwd(Cpu, const MelFwd&);
void mel_fwd(Cuda, const MelFwd&);

}  // namespace onpa::kernels
