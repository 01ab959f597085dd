// Waveform and spectrogram augmentation. Every draw depends on (seed, step or epoch, sample id).
// Source: the public PaSST training recipe (arXiv:2110.05069).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/philox.h"
#include "tensor/tensor.h"

namespace onpa::audio {

/// Multiplies by 10^(g / 20), g a whole number of dB in [low_db, high_db].
void random_gain(std::span<float> wave, int low_db, int high_db, const RngKey& key);
/// Rotates by a whole number of samples in [-max_shift, max_shift].
void random_roll(std::span<float> wave, std::int64_t max_shift, const RngKey& key);
/// `length` samples of `wave`: zero-padded at the end if shorter; from a random start if longer and
/// `random_start`, else from the beginning.
std::vector<float> fit_length(std::span<const float> wave, std::int64_t length, bool random_start,
                              const RngKey& key);
/// Mixes `other` into `wave` (equal lengths): both mean-removed, weight max(l, 1 - l) with
/// l ~ Beta(2, 2), the mix mean-removed again. Returns the weight of `wave`.
float mixup_wave(std::span<float> wave, std::span<const float> other, const RngKey& key);

/// Mixup of a batch of spectrograms: row b becomes w_b x_b + (1 - w_b) x_p(b), w = max(l, 1 - l),
/// l ~ Beta(alpha, alpha), p one permutation of the batch. Targets are to be mixed the same way.
struct MixupPlan {
  std::vector<std::int32_t> partner;  // (batch)
  std::vector<float> weight;          // (batch), [0.5, 1]
};
MixupPlan draw_mixup(std::int64_t batch, float alpha, std::uint64_t seed, std::uint64_t step);
/// x (B, ...) to the mixed (B, ...). Not differentiable.
Tensor apply_mixup(const Tensor& x, const MixupPlan& plan);

/// The same plan in memory of the device that mixes: partner (B) i32, weight (B) f32.
struct MixupTensors {
  Tensor partner, weight;
};
/// On the CPU.
MixupTensors to_tensors(const MixupPlan& plan);
/// As above, for the first rows of x only where the plan has fewer than x; the others can be
/// partners. The partners are not looked at.
Tensor apply_mixup(const Tensor& x, const MixupTensors& plan);

/// A draw from Beta(a, b).
double draw_beta(Philox& rng, double a, double b);

}  // namespace onpa::audio
