#include "audio/augment.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/mix.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::audio {
namespace {

double mean_of(std::span<const float> wave) {
  double sum = 0;
  for (const float v : wave) sum += v;
  return wave.empty() ? 0.0 : sum / static_cast<double>(wave.size());
}

// A draw from Gamma(shape, 1) for shape >= 1. Source: Marsaglia and Tsang, "A simple method for
// generating gamma variables", ACM TOMS 26(3), 2000.
double draw_gamma(Philox& rng, double shape) {
  const double d = shape - 1.0 / 3.0, c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = rng.normal(), t = 1.0 + c * x, v = t * t * t;
    const double u = 1.0 - rng.uniform();
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

// The log of a draw from Gamma(shape, 1), shape > 0. For a small shape the draw itself underflows;
// Gamma(a) = Gamma(a + 1) U^(1/a) does not in logs.
double draw_log_gamma(Philox& rng, double shape) {
  if (shape >= 1) return std::log(draw_gamma(rng, shape));
  const double log_base = std::log(draw_gamma(rng, shape + 1));
  return log_base + std::log(1.0 - rng.uniform()) / shape;
}

}  // namespace

void random_gain(std::span<float> wave, int low_db, int high_db, const RngKey& key) {
  ONPA_CHECK(low_db <= high_db, "random_gain: from ", low_db, " to ", high_db, " dB");
  Philox rng(key);
  const int gain_db =
      low_db + static_cast<int>(rng.below(static_cast<std::uint32_t>(high_db - low_db) + 1));
  const float factor = static_cast<float>(std::pow(10.0, gain_db / 20.0));
  for (float& v : wave) v *= factor;
}

void random_roll(std::span<float> wave, std::int64_t max_shift, const RngKey& key) {
  ONPA_CHECK(max_shift >= 0 && max_shift < (std::int64_t{1} << 30), "random_roll: max_shift ",
             max_shift);
  if (wave.empty() || max_shift == 0) return;
  Philox rng(key);
  const std::int64_t size = static_cast<std::int64_t>(wave.size());
  const std::int64_t shift =
      static_cast<std::int64_t>(rng.below(static_cast<std::uint32_t>(2 * max_shift + 1))) -
      max_shift;
  const std::int64_t right = ((shift % size) + size) % size;
  std::rotate(wave.begin(), wave.end() - right, wave.end());
}

std::vector<float> fit_length(std::span<const float> wave, std::int64_t length, bool random_start,
                              const RngKey& key) {
  ONPA_CHECK(length >= 0, "fit_length: length ", length);
  const std::int64_t spare = static_cast<std::int64_t>(wave.size()) - length;
  std::int64_t start = 0;
  if (spare > 0 && random_start) {
    ONPA_CHECK(spare < 0xFFFFFFFF, "fit_length: a wave of ", wave.size(), " samples is too long");
    Philox rng(key);
    start = rng.below(static_cast<std::uint32_t>(spare) + 1);
  }
  std::vector<float> out(static_cast<std::size_t>(length), 0.0f);
  const auto kept = static_cast<std::size_t>(
      std::min<std::int64_t>(length, static_cast<std::int64_t>(wave.size())));
  std::copy_n(wave.begin() + start, kept, out.begin());
  return out;
}

float mixup_wave(std::span<float> wave, std::span<const float> other, const RngKey& key) {
  ONPA_CHECK(wave.size() == other.size(), "mixup_wave: ", wave.size(), " samples mixed with ",
             other.size());
  Philox rng(key);
  const double draw = draw_beta(rng, 2, 2);
  const float weight = static_cast<float>(std::max(draw, 1 - draw));
  const double mean_wave = mean_of(wave), mean_other = mean_of(other);
  double sum = 0;
  for (std::size_t i = 0; i < wave.size(); ++i) {
    const double mixed = weight * (wave[i] - mean_wave) + (1.0 - weight) * (other[i] - mean_other);
    wave[i] = static_cast<float>(mixed);
    sum += wave[i];
  }
  // Already zero but for rounding; removed again as the recipe says.
  const float rest =
      wave.empty() ? 0.0f : static_cast<float>(sum / static_cast<double>(wave.size()));
  for (float& v : wave) v -= rest;
  return weight;
}

MixupPlan draw_mixup(std::int64_t batch, float alpha, std::uint64_t seed, std::uint64_t step) {
  ONPA_CHECK(batch >= 0 && alpha > 0, "draw_mixup: batch ", batch, ", alpha ", alpha);
  MixupPlan plan;
  plan.partner.resize(static_cast<std::size_t>(batch));
  std::iota(plan.partner.begin(), plan.partner.end(), 0);
  Philox rng({.seed = seed, .stream = kStreamMixupSpec, .step = step});
  rng.shuffle(plan.partner);
  for (std::int64_t b = 0; b < batch; ++b) {
    const double draw = draw_beta(rng, alpha, alpha);
    plan.weight.push_back(static_cast<float>(std::max(draw, 1 - draw)));
  }
  return plan;
}

MixupTensors to_tensors(const MixupPlan& plan) {
  const Shape shape = {static_cast<std::int64_t>(plan.partner.size())};
  return {Tensor::from<std::int32_t>(shape, plan.partner), Tensor::from<float>(shape, plan.weight)};
}

Tensor apply_mixup(const Tensor& x, const MixupTensors& plan) {
  ONPA_CHECK(x.defined() && x.dtype() == DType::kF32 && x.shape().rank() >= 1,
             "apply_mixup: want (B, ...) of f32");
  const std::int64_t rows = x.size(0), batch = plan.partner.numel();
  ONPA_CHECK(batch <= rows && plan.weight.numel() == batch, "apply_mixup: a plan for ", batch,
             " rows, ", plan.weight.numel(), " weights and a batch of ", rows);
  Tensor y = Tensor::empty(x.shape().with(0, batch), x.dtype(), x.device());
  const OpScope scope("mixup", [&] {
    return OpWork{3 * ops::elements(y), ops::bytes_of(x, plan.partner, plan.weight, y)};
  });
  on_device(x.device(), [&](auto dev) {
    kernels::mix_rows(dev, {.x = x.data<float>(),
                            .partner = plan.partner.data<std::int32_t>(),
                            .weight = plan.weight.data<float>(),
                            .y = y.data<float>(),
                            .batch = batch,
                            .cols = rows == 0 ? 0 : x.numel() / rows});
  });
  return y;
}

Tensor apply_mixup(const Tensor& x, const MixupPlan& plan) {
  const auto batch = static_cast<std::int32_t>(plan.partner.size());
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1 && x.size(0) == batch, "apply_mixup: a plan for ",
             batch, " rows and a batch of ", x.shape());
  for (std::size_t b = 0; b < plan.partner.size(); ++b) {
    ONPA_CHECK(plan.partner[b] >= 0 && plan.partner[b] < batch, "apply_mixup: partner ",
               plan.partner[b], " of row ", b, " in a batch of ", batch);
  }
  return apply_mixup(x, to_tensors(plan));
}

double draw_beta(Philox& rng, double a, double b) {
  ONPA_CHECK(a > 0 && b > 0, "draw_beta: a ", a, ", b ", b, ", want both above 0");
  const double x = draw_log_gamma(rng, a), y = draw_log_gamma(rng, b);
  return 1.0 / (1.0 + std::exp(y - x));
}

}  // namespace onpa::audio
