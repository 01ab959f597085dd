// The fused mel front end: waveform in, normalised log-mel out.
// Source: the front end of PaSST (arXiv:2110.05069); filterbank as
// torchaudio.compliance.kaldi.get_mel_banks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace onpa::kernels {

constexpr std::int64_t kMelFft = 1024;
/// Weights that a bank has at most: a bin below Nyquist's lies in no more than two triangles.
constexpr std::int64_t kMaxMelWeights = kMelFft;

/// The pointers of a MelBank, in memory of the device that works with them.
struct MelBankView {
  const std::int32_t* first;   // (mels): first FFT bin with weight
  const std::int32_t* offset;  // (mels + 1): where the row starts in `weight`
  const float* weight;         // (offset[mels])
};

/// A triangular filterbank kept as its non-zero band per row.
struct MelBank {
  std::vector<std::int32_t> first, offset;
  std::vector<float> weight;
  float fmin_hz = 0, fmax_hz = 0;

  MelBankView view() const { return {first.data(), offset.data(), weight.data()}; }
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
template <class In = float, class Out = float>
struct MelFwd {
  const In* wave;  // (batch, samples): [-1, 1], or PCM of 16 bits, which is divided by 32768
  Out* y;          // (batch, mels, frames)
  MelBankView bank;
  const MelMask* mask;          // (batch) or null
  std::int64_t batch, samples;  // samples > 514: reflection needs samples - 1 > n_fft / 2
  std::int64_t mels, frames;    // frames = 1 + (samples - 1) / hop
  std::int64_t win, hop;        // win <= 1024
  float preemphasis, log_offset, mean, std;
  void* workspace = nullptr;  // mel_fwd_workspace_bytes() of device memory, 16-byte aligned
};
void mel_fwd(Cpu, const MelFwd<>&);
/// In is float or std::int16_t, Out float or bf16.
template <class In, class Out>
void mel_fwd(Cuda, const MelFwd<In, Out>&);

/// Bytes of MelFwd::workspace; pointers are ignored. 0 on the CPU, and on the GPU where the fused
/// kernel's shared memory suffices (572 bands at PaSST's window and hop, 406 at any); beyond, cuFFT
/// takes over with up to 16 MiB.
inline std::size_t mel_fwd_workspace_bytes(Cpu, const MelFwd<>&) {
  return 0;
}
template <class In, class Out>
std::size_t mel_fwd_workspace_bytes(Cuda, const MelFwd<In, Out>&);

}  // namespace onpa::kernels
