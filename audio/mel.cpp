#include "audio/mel.h"

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"
#include "tensor/dispatch.h"

namespace onpa::audio {
namespace {

void check(const Tensor& wave, const MelConfig& c, float fmin_hz, float fmax_hz) {
  ONPA_CHECK(wave.defined() && wave.dtype() == DType::kF32 && wave.shape().rank() == 2,
             "log_mel: want waveforms (B, S) of f32");
  ONPA_CHECK(wave.size(1) >= 515, "log_mel: ", wave.size(1),
             " samples are too few to reflect at the edges, want at least 515");
  ONPA_CHECK(c.win_samples >= 1 && c.win_samples <= kernels::kMelFft, "log_mel: a window of ",
             c.win_samples, " samples, want 1 to ", kernels::kMelFft);
  ONPA_CHECK(c.hop_samples >= 1 && c.mels >= 1 && c.std > 0, "log_mel: hop ", c.hop_samples,
             ", mels ", c.mels, ", std ", c.std, ", want all above 0");
  ONPA_CHECK(fmin_hz >= 0 && fmin_hz < fmax_hz && fmax_hz <= 0.5f * static_cast<float>(c.rate_hz),
             "log_mel: bands from ", fmin_hz, " to ", fmax_hz, " Hz at a rate of ", c.rate_hz,
             " Hz");
}

Tensor compute(const Tensor& wave, const MelConfig& config, float fmin_hz, float fmax_hz,
               const std::vector<kernels::MelMask>* masks) {
  check(wave, config, fmin_hz, fmax_hz);
  const std::int64_t batch = wave.size(0), samples = wave.size(1), frames = config.frames(samples);
  // Rebuilding the bank takes about a millisecond, so each thread keeps its last one.
  thread_local kernels::MelBank bank;
  thread_local int bank_mels = 0, bank_rate_hz = 0;
  if (bank_mels != config.mels || bank_rate_hz != config.rate_hz || bank.fmin_hz != fmin_hz ||
      bank.fmax_hz != fmax_hz) {
    bank = kernels::make_mel_bank(config.mels, kernels::kMelFft, static_cast<float>(config.rate_hz),
                                  fmin_hz, fmax_hz);
    bank_mels = config.mels;
    bank_rate_hz = config.rate_hz;
  }
  Tensor y = Tensor::empty({batch, config.mels, frames}, DType::kF32, wave.device());
  on_device(wave.device(), [&](auto dev) {
    kernels::mel_fwd(dev, {.wave = wave.data<float>(),
                           .y = y.data<float>(),
                           .bank = &bank,
                           .mask = masks ? masks->data() : nullptr,
                           .batch = batch,
                           .samples = samples,
                           .mels = config.mels,
                           .frames = frames,
                           .win = config.win_samples,
                           .hop = config.hop_samples,
                           .preemphasis = config.preemphasis,
                           .log_offset = config.log_offset,
                           .mean = config.mean,
                           .std = config.std});
  });
  return y;
}

// One SpecAugment mask along an axis of `size` cells: width in [0, param), start so that it fits.
void draw_mask(Philox& rng, int param, std::int64_t size, std::int32_t& start,
               std::int32_t& length) {
  if (param <= 0) return;
  const double width = std::min(rng.uniform() * param, static_cast<double>(size));
  start = static_cast<std::int32_t>(rng.uniform() * (static_cast<double>(size) - width));
  length = static_cast<std::int32_t>(width);
}

}  // namespace

Tensor log_mel(const Tensor& wave, const MelConfig& config) {
  return compute(wave, config, config.fmin_hz, config.fmax_hz, nullptr);
}

Tensor log_mel_train(const Tensor& wave, const MelConfig& config, const MelAugment& augment,
                     std::uint64_t seed, std::uint64_t step,
                     const std::vector<std::uint64_t>& ids) {
  float fmin_hz = config.fmin_hz, fmax_hz = config.fmax_hz;
  Philox range({.seed = seed, .stream = kStreamMelRange, .step = step});
  if (augment.fmin_range_hz > 0) {
    fmin_hz += static_cast<float>(range.below(static_cast<std::uint32_t>(augment.fmin_range_hz)));
  }
  if (augment.fmax_range_hz > 0) {
    const auto drawn = range.below(static_cast<std::uint32_t>(augment.fmax_range_hz));
    fmax_hz += static_cast<float>(augment.fmax_range_hz / 2 - static_cast<int>(drawn));
  }
  check(wave, config, fmin_hz, fmax_hz);
  const auto batch = static_cast<std::size_t>(wave.size(0));
  ONPA_CHECK(ids.size() == batch, "log_mel_train: ", ids.size(), " ids for a batch of ", batch);
  std::vector<kernels::MelMask> masks(batch);
  for (std::size_t b = 0; b < batch; ++b) {
    Philox rng({.seed = seed, .stream = kStreamSpecAugment, .step = step, .sample = ids[b]});
    kernels::MelMask& mask = masks[b];
    draw_mask(rng, augment.freq_mask, config.mels, mask.f0, mask.f_len);
    draw_mask(rng, augment.time_mask, config.frames(wave.size(1)), mask.t0, mask.t_len);
  }
  return compute(wave, config, fmin_hz, fmax_hz, &masks);
}

}  // namespace onpa::audio
