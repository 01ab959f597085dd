// The mel front end of PaSST as an op on waveforms, with its training-time jitter and masks.
#pragma once

#include <cstdint>

#include "kernels/mel.h"
#include "tensor/tensor.h"

namespace onpa::audio {

/// Front-end settings; they travel inside checkpoints. Source: arXiv:2110.05069.
struct MelConfig {
  int rate_hz = 32000;
  int mels = 128;
  int win_samples = 800;
  int hop_samples = 320;
  float fmin_hz = 0;
  float fmax_hz = 15000;
  float preemphasis = 0.97f;
  float log_offset = 1e-5f;
  float mean = -4.5f, std = 5.0f;  // y = (ln(mel + log_offset) - mean) / std

  std::int64_t frames(std::int64_t samples) const { return 1 + (samples - 1) / hop_samples; }
};

/// Training-time randomness of the front end; all off by default.
struct MelAugment {
  int fmin_range_hz = 0;  // fmin drawn from {0 .. range - 1}, once per batch; PaSST: 10
  int fmax_range_hz = 0;  // fmax = fmax + range / 2 - {0 .. range - 1}; PaSST: 2000
  int freq_mask = 0;      // SpecAugment widths drawn from [0, param); PaSST: 48
  int time_mask = 0;      // PaSST: 192
};

/// What the front end reads beside waveforms. The shapes depend on the config and the batch alone,
/// so that a step which is replayed can have them in fixed device memory, filled before each run.
struct MelInputs {
  Tensor bank;   // (2 mels + 1 + kMaxMelWeights) i32: first, offset, bits of the weights; padded
  Tensor masks;  // (B, 4) i32: f0, f_len, t0, t_len as MelMask; undefined: none

  /// Copies on `device`.
  MelInputs to(DeviceKind device) const;
};

/// The config's bank, no masks; on the CPU. Throws Error for bands outside of [0, rate / 2].
MelInputs mel_inputs(const MelConfig& config);

/// The draws of a training step for clips of `samples` samples, on the CPU: row b uses key.sample
/// of ids[b] for its masks. Throws Error for bands outside of [0, rate / 2].
MelInputs draw_mel_inputs(const MelConfig& config, const MelAugment& augment, std::int64_t samples,
                          std::uint64_t seed, std::uint64_t step,
                          const std::vector<std::uint64_t>& ids);

/// wave (B, S) f32 in [-1, 1] to (B, mels, frames(S)) of `dtype`: f32, on the GPU also bf16. Not
/// differentiable. The bank's bands take the place of the config's. Throws Error if S is under 515
/// samples or `inputs` lie on another device.
Tensor log_mel_device(const Tensor& wave, const MelConfig& config, const MelInputs& inputs,
                      DType dtype = DType::kF32);

/// log_mel_device with mel_inputs(config), which go to the wave's device first: not for a step with
/// planned memory. Parity: AugmentMelSTFT of the public PaSST code in eval mode.
Tensor log_mel(const Tensor& wave, const MelConfig& config);

/// As log_mel with draw_mel_inputs(...).
Tensor log_mel_train(const Tensor& wave, const MelConfig& config, const MelAugment& augment,
                     std::uint64_t seed, std::uint64_t step, const std::vector<std::uint64_t>& ids);

}  // namespace onpa::audio
