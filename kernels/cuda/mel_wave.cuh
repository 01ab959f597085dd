// From samples to windowed points, and from a band's power to a cell: what both ways to a mel
// spectrogram have in common.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/mel.h"

namespace onpa::gpu {

constexpr int kMelPad = static_cast<int>(kernels::kMelFft) / 2;  // samples reflected on either side

GPU_FN float sample(const float* x, std::int64_t i) {
  return x[i];
}
GPU_FN float sample(const std::int16_t* x, std::int64_t i) {
  return static_cast<float>(x[i]) * 0x1p-15f;
}

/// x[at + 1] - c x[at], reflected at 0 and at samples - 2; 0 beyond the reflection, where only
/// frames that the clip does not have would read.
template <class In>
GPU_FN float pre_emphasised(const In* x, std::int64_t samples, float c, std::int64_t at) {
  const std::int64_t length = samples - 1;
  if (at < 0) at = -at;
  if (at >= length) at = 2 * (length - 1) - at;
  return at < 0 ? 0.0f : fmaf(-c, sample(x, at), sample(x, at + 1));
}

/// The symmetric Hann window of `win` samples at `at`, 0 outside of it. sin^2 of at most a quarter
/// turn loses nothing.
GPU_FN float hann(int win, int at) {
  const int back = win - 1 - at;
  if (at < 0 || back < 0) return 0;
  if (win == 1) return 1;
  // mutation: the sine of the other side of half a turn is the same but for rounding
  const float s = sinpif(static_cast<float>(min(at, back)) / static_cast<float>(win - 1));
  return s * s;
}

/// A cell of the result. `scale` is 1 / std.
GPU_FN float mel_cell(float sum, bool masked, float log_offset, float mean, float scale) {
  return ((masked ? 0.0f : logf(sum + log_offset)) - mean) * scale;
}

}  // namespace onpa::gpu
