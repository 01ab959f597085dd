// Waveform to features, through the mel front end, against the public implementation;
// tests/golden/make_passt.py made the values.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numbers>

#include "audio/mel.h"
#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/io/npy.h"
#include "tests/support/hash_fill.h"

namespace onpa {
namespace {

// A rising tone over noise, 10 s.
Tensor sweep() {
  constexpr std::int64_t kSamples = 320000;
  const std::uint32_t name = testing::hash_name("wave");
  Tensor wave = Tensor::empty({1, kSamples});
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const double t = static_cast<double>(i) / 32000;
    const double noise = testing::hash_uniform(name, static_cast<std::uint32_t>(i));
    const double tone = std::sin(2 * std::numbers::pi * (200 * t + 300 * t * t));
    wave.data<float>()[i] = static_cast<float>(0.2 * noise + 0.3 * tone);
  }
  return wave;
}

TEST(PasstWaveform, FeaturesAndLogitsEqualThePublicCode) {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-l");
  config.stride_f = config.stride_t = 16;
  config.table_t = 62;
  nn::Passt model(config);
  testing::hash_fill_parameters(model);
  NoGrad no_grad;
  const nn::Passt::Output output = model.forward(audio::log_mel(sweep(), {}));

  const auto path = std::filesystem::path(ONPA_GOLDEN_DIR) / "passt_wave.npy";
  const Tensor want = io::read_npy(path);
  ASSERT_EQ(want.shape(), (Shape{1, 768 + 527}));
  for (std::int64_t i = 0; i < want.size(1); ++i) {
    const float got =
        i < 768 ? output.features.data<float>()[i] : output.logits.data<float>()[i - 768];
    ASSERT_NEAR(got, want.data<double>()[i], 1e-4) << i;
  }
}

}  // namespace
}  // namespace onpa
