#include "audio/mel.h"

#include <algorithm>
#include <bit>
#include <type_traits>
#include <vector>

#include "kernels/philox.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::audio {
namespace {

std::int64_t bank_words(const MelConfig& config) {
  return 2 * config.mels + 1 + kernels::kMaxMelWeights;
}

void check_wave(const Tensor& wave, const MelConfig& c) {
  ONPA_CHECK(wave.defined() && wave.dtype() == DType::kF32 && wave.shape().rank() == 2,
             "log_mel: want waveforms (B, S) of f32");
  ONPA_CHECK(wave.size(1) >= 515, "log_mel: ", wave.size(1),
             " samples are too few to reflect at the edges, want at least 515");
  ONPA_CHECK(c.win_samples >= 1 && c.win_samples <= kernels::kMelFft, "log_mel: a window of ",
             c.win_samples, " samples, want 1 to ", kernels::kMelFft);
  ONPA_CHECK(c.hop_samples >= 1 && c.mels >= 1 && c.std > 0, "log_mel: hop ", c.hop_samples,
             ", mels ", c.mels, ", std ", c.std, ", want all above 0");
}

void check_inputs(const Tensor& wave, const MelConfig& c, const MelInputs& inputs) {
  ONPA_CHECK(inputs.bank.defined() && inputs.bank.dtype() == DType::kI32 &&
                 inputs.bank.numel() == bank_words(c) && inputs.bank.device() == wave.device(),
             "log_mel: bank of shape ", inputs.bank.shape(), ", want ", bank_words(c),
             " words beside the waveforms");
  if (!inputs.masks.defined()) return;
  ONPA_CHECK(inputs.masks.dtype() == DType::kI32 &&
                 inputs.masks.shape() == Shape({wave.size(0), 4}) &&
                 inputs.masks.device() == wave.device(),
             "log_mel: masks of shape ", inputs.masks.shape(), ", want ", Shape{wave.size(0), 4},
             " beside the waveforms");
}

const kernels::MelBank& bank_of(const MelConfig& config, float fmin_hz, float fmax_hz) {
  ONPA_CHECK(config.mels >= 1, "log_mel: ", config.mels, " mels, want at least 1");
  ONPA_CHECK(
      fmin_hz >= 0 && fmin_hz < fmax_hz && fmax_hz <= 0.5f * static_cast<float>(config.rate_hz),
      "log_mel: bands from ", fmin_hz, " to ", fmax_hz, " Hz at a rate of ", config.rate_hz, " Hz");
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
  return bank;
}

Tensor pack_bank(const MelConfig& config, float fmin_hz, float fmax_hz) {
  const kernels::MelBank& bank = bank_of(config, fmin_hz, fmax_hz);
  const Tensor packed = Tensor::zeros({bank_words(config)}, DType::kI32);
  std::int32_t* next = std::ranges::copy(bank.first, packed.data<std::int32_t>()).out;
  next = std::ranges::copy(bank.offset, next).out;
  // None where all bands lie between two frequencies of the transform.
  for (const float weight : bank.weight) *next++ = std::bit_cast<std::int32_t>(weight);
  return packed;
}

kernels::MelBankView view_of(const Tensor& packed, std::int64_t mels) {
  const auto* words = packed.data<std::int32_t>();
  return {words, words + mels, reinterpret_cast<const float*>(words + 2 * mels + 1)};
}

// One SpecAugment mask along an axis of `size` cells: width in [0, param), start so that it fits.
void draw_mask(Philox& rng, int param, std::int64_t size, std::int32_t& start,
               std::int32_t& length) {
  if (param <= 0) return;
  const double width = std::min(rng.uniform() * param, static_cast<double>(size));
  start = static_cast<std::int32_t>(rng.uniform() * (static_cast<double>(size) - width));
  length = static_cast<std::int32_t>(width);
}

template <class Out>
kernels::MelFwd<float, Out> mel_args(const Tensor& wave, const MelConfig& config,
                                     const MelInputs& inputs, const Tensor& y) {
  static_assert(sizeof(kernels::MelMask) == 4 * sizeof(std::int32_t));
  const auto* masks = inputs.masks.defined() ? inputs.masks.data<std::int32_t>() : nullptr;
  return {.wave = wave.data<float>(),
          .y = y.data<Out>(),
          .bank = view_of(inputs.bank, config.mels),
          .mask = reinterpret_cast<const kernels::MelMask*>(masks),
          .batch = wave.size(0),
          .samples = wave.size(1),
          .mels = config.mels,
          .frames = config.frames(wave.size(1)),
          .win = config.win_samples,
          .hop = config.hop_samples,
          .preemphasis = config.preemphasis,
          .log_offset = config.log_offset,
          .mean = config.mean,
          .std = config.std};
}

// A frame: window, real FFT of 2.5 n log2 n, power of each bin, which lies in two bands at most,
// and logarithm and scaling of each band; and pre-emphasis of each sample.
OpWork mel_work(const Tensor& wave, const MelConfig& config, const MelInputs& inputs,
                const Tensor& y) {
  constexpr double kFft = static_cast<double>(kernels::kMelFft), kLog2Fft = 10;
  static_assert(kernels::kMelFft == 1 << 10);
  const double frame = config.win_samples + 2.5 * kFft * kLog2Fft + 3 * (kFft / 2 + 1) +
                       2 * 2 * (kFft / 2 + 1) + 4.0 * config.mels;
  const auto frames = static_cast<double>(y.size(0) * y.size(2));
  return {2 * ops::elements(wave) + frames * frame,
          ops::bytes_of(wave, inputs.bank, inputs.masks, y)};
}

// bf16 comes from the GPU alone.
template <class Dev, class Out>
constexpr bool kWrites = std::is_same_v<Out, float> || std::is_same_v<Dev, kernels::Cuda>;

template <class Out>
void start(const Tensor& wave, const MelConfig& config, const MelInputs& inputs, const Tensor& y) {
  auto args = mel_args<Out>(wave, config, inputs, y);
  const Tensor scratch = workspace(wave.device(), [&](auto dev) {
    std::size_t bytes = 0;
    if constexpr (kWrites<decltype(dev), Out>) bytes = kernels::mel_fwd_workspace_bytes(dev, args);
    return bytes;
  });
  if (scratch.defined()) args.workspace = scratch.bytes();
  on_device(wave.device(), [&](auto dev) {
    if constexpr (kWrites<decltype(dev), Out>) kernels::mel_fwd(dev, args);
  });
}

}  // namespace

MelInputs MelInputs::to(DeviceKind device) const {
  return {bank.to(device), masks.defined() ? masks.to(device) : Tensor()};
}

MelInputs mel_inputs(const MelConfig& config) {
  return {pack_bank(config, config.fmin_hz, config.fmax_hz), {}};
}

MelInputs draw_mel_inputs(const MelConfig& config, const MelAugment& augment, std::int64_t samples,
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
  const Tensor masks = Tensor::zeros({static_cast<std::int64_t>(ids.size()), 4}, DType::kI32);
  std::int32_t* mask = masks.data<std::int32_t>();
  for (const std::uint64_t id : ids) {
    Philox rng({.seed = seed, .stream = kStreamSpecAugment, .step = step, .sample = id});
    draw_mask(rng, augment.freq_mask, config.mels, mask[0], mask[1]);
    draw_mask(rng, augment.time_mask, config.frames(samples), mask[2], mask[3]);
    mask += 4;
  }
  return {pack_bank(config, fmin_hz, fmax_hz), masks};
}

Tensor log_mel_device(const Tensor& wave, const MelConfig& config, const MelInputs& inputs,
                      DType dtype) {
  check_wave(wave, config);
  check_inputs(wave, config, inputs);
  ONPA_CHECK(dtype == DType::kF32 || (dtype == DType::kBF16 && wave.device() == DeviceKind::kCuda),
             "log_mel: ", name_of(dtype), " out, want f32, or bf16 on the GPU");
  const Tensor y =
      Tensor::empty({wave.size(0), config.mels, config.frames(wave.size(1))}, dtype, wave.device());
  const OpScope scope("log_mel", [&] { return mel_work(wave, config, inputs, y); });
  if (dtype == DType::kBF16) {
    start<bf16>(wave, config, inputs, y);
  } else {
    start<float>(wave, config, inputs, y);
  }
  return y;
}

Tensor log_mel(const Tensor& wave, const MelConfig& config) {
  check_wave(wave, config);
  return log_mel_device(wave, config, mel_inputs(config).to(wave.device()));
}

Tensor log_mel_train(const Tensor& wave, const MelConfig& config, const MelAugment& augment,
                     std::uint64_t seed, std::uint64_t step,
                     const std::vector<std::uint64_t>& ids) {
  check_wave(wave, config);
  ONPA_CHECK(static_cast<std::int64_t>(ids.size()) == wave.size(0), "log_mel_train: ", ids.size(),
             " ids for a batch of ", wave.size(0));
  const MelInputs inputs = draw_mel_inputs(config, augment, wave.size(1), seed, step, ids);
  return log_mel_device(wave, config, inputs.to(wave.device()));
}

}  // namespace onpa::audio
