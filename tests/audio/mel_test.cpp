#include "audio/mel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "tensor/io/npy.h"
#include "tests/support/gradcheck.h"

namespace onpa::audio {
namespace {

using onpa::testing::difference;
using onpa::testing::random_normal;

Tensor golden(const std::string& name) {
  return io::read_npy(std::string(ONPA_GOLDEN_DIR) + "/" + name + ".npy");
}
Tensor noise(std::int64_t batch, std::int64_t samples, std::uint64_t seed = 1) {
  return random_normal({batch, samples}, seed, 0.1, DType::kF32);
}

// The bound is the parity target for fp32 against a float64 reference.
TEST(LogMel, MatchesTorchStftAndKaldiBank) {
  const Tensor wave = golden("mel_wave");
  EXPECT_LT(difference(log_mel(wave, {}), golden("mel_eval")).max_abs, 1e-4);
  EXPECT_LT(
      difference(log_mel(wave, {.fmin_hz = 9, .fmax_hz = 14001}), golden("mel_jitter")).max_abs,
      1e-4);
}

TEST(LogMel, CountsFramesAsTheConfigSays) {
  EXPECT_EQ(MelConfig{}.frames(320000), 1000);
  EXPECT_EQ(MelConfig{}.frames(960000), 3000);
  EXPECT_EQ(MelConfig{}.frames(960001), 3001);
  EXPECT_EQ(log_mel(noise(2, 1601), {}).shape(), Shape({2, 128, 6}));
  EXPECT_EQ(log_mel(noise(1, 515), {}).shape(), Shape({1, 128, 2}));
  EXPECT_EQ(log_mel(Tensor::zeros({0, 1000}), {}).shape(), Shape({0, 128, 4}));
}

TEST(LogMel, RefusesWhatItCannotFrame) {
  const auto message = [](const Tensor& wave, const MelConfig& config) {
    try {
      log_mel(wave, config);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(message(noise(1, 514), {}).find("514 samples"), std::string::npos);
  EXPECT_NE(message(Tensor::zeros({1000}), {}).find("(B, S)"), std::string::npos);
  EXPECT_NE(message(Tensor::zeros({1, 1000}, DType::kF64), {}).find("f32"), std::string::npos);
  EXPECT_NE(message(noise(1, 2000), {.win_samples = 1025}).find("1025"), std::string::npos);
  EXPECT_NE(message(noise(1, 2000), {.fmax_hz = 16001}).find("16001"), std::string::npos);
}

TEST(LogMelTrain, WithoutAugmentationIsLogMel) {
  const Tensor wave = noise(2, 5000);
  EXPECT_EQ(log_mel_train(wave, {}, {}, 1, 2, {3, 4}).to_vector<float>(),
            log_mel(wave, {}).to_vector<float>());
}

TEST(LogMelTrain, DrawsDependOnSeedStepAndSampleOnly) {
  const MelAugment augment{
      .fmin_range_hz = 10, .fmax_range_hz = 2000, .freq_mask = 48, .time_mask = 30};
  const Tensor wave = noise(3, 32000);
  const auto run = [&](std::uint64_t seed, std::uint64_t step) {
    return log_mel_train(wave, {}, augment, seed, step, {10, 11, 12}).to_vector<float>();
  };
  EXPECT_EQ(run(1, 1), run(1, 1));
  EXPECT_NE(run(1, 1), run(2, 1));
  EXPECT_NE(run(1, 1), run(1, 2));
  // A sample's masks are its own: alone it looks as in the batch.
  const Tensor alone = log_mel_train(wave.slice(1, 2), {}, augment, 1, 1, {11});
  const auto batch = run(1, 1);
  const auto row = alone.to_vector<float>();
  EXPECT_TRUE(std::equal(row.begin(), row.end(), batch.begin() + static_cast<long>(row.size())));
}

TEST(LogMelTrain, MasksStayWithinTheirBounds) {
  const std::int64_t frames = 100;
  const Tensor wave = noise(1, 32000);
  double rows_masked = 0, columns_masked = 0;
  const int kDraws = 300;
  for (int draw = 0; draw < kDraws; ++draw) {
    const Tensor y = log_mel_train(wave, {}, {.freq_mask = 48, .time_mask = 30}, 5, 1,
                                   {static_cast<std::uint64_t>(draw)});
    const float* p = y.data<float>();
    const auto filled = [&](std::int64_t m, std::int64_t t) {
      return std::abs(p[m * frames + t] - 0.9f) < 1e-6f;
    };
    int rows = 0, columns = 0;
    for (std::int64_t m = 0; m < 128; ++m) {
      bool all = true;
      for (std::int64_t t = 0; t < frames && all; ++t) all = filled(m, t);
      rows += all;
    }
    for (std::int64_t t = 0; t < frames; ++t) {
      bool all = true;
      for (std::int64_t m = 0; m < 128 && all; ++m) all = filled(m, t);
      columns += all;
    }
    EXPECT_LT(rows, 48);
    EXPECT_LT(columns, 30);
    rows_masked += rows;
    columns_masked += columns;
  }
  // Widths are uniform on [0, param): means 23.5 and 14.5, standard errors 0.8 and 0.5.
  EXPECT_NEAR(rows_masked / kDraws, 23.5, 3.2);
  EXPECT_NEAR(columns_masked / kDraws, 14.5, 2.0);
}

#ifdef ONPA_CUDA
// More bands than the GPU's fused kernel takes: its op brings cuFFT's way the workspace.
TEST(LogMel, BothDevicesAgreeOnManyBands) {
  const Tensor wave = noise(2, 4001);
  for (const int mels : {128, 700}) {
    const MelConfig config{.mels = mels};
    const Tensor got = log_mel(wave.to(DeviceKind::kCuda), config).to(DeviceKind::kCpu);
    EXPECT_LT(difference(got, log_mel(wave, config)).max_abs, 1e-4) << mels;
  }
}
#endif

// What a replayed step does: fixed memory, filled anew for each run.
TEST(LogMelTrain, InputsCanBeRefilled) {
  const MelAugment augment{
      .fmin_range_hz = 10, .fmax_range_hz = 2000, .freq_mask = 48, .time_mask = 30};
  const Tensor wave = noise(2, 9000);
  const MelInputs fixed = draw_mel_inputs({}, augment, 9000, 1, 0, {0, 0});
  for (std::uint64_t step = 1; step < 6; ++step) {
    const MelInputs drawn = draw_mel_inputs({}, augment, 9000, 1, step, {step, 7});
    fixed.bank.copy_from(drawn.bank);
    fixed.masks.copy_from(drawn.masks);
    EXPECT_EQ(log_mel_device(wave, {}, fixed).to_vector<float>(),
              log_mel_train(wave, {}, augment, 1, step, {step, 7}).to_vector<float>());
  }
  EXPECT_EQ(log_mel_device(wave, {}, mel_inputs({})).to_vector<float>(),
            log_mel(wave, {}).to_vector<float>());
}

TEST(LogMelTrain, RefusesInputsOfAnotherConfigOrBatch) {
  const Tensor wave = noise(2, 2000);
  EXPECT_THROW(log_mel_device(wave, {}, mel_inputs({.mels = 64})), Error);
  EXPECT_THROW(log_mel_device(wave, {}, draw_mel_inputs({}, {}, 2000, 1, 1, {1})), Error);
  EXPECT_THROW(log_mel_device(wave, {}, mel_inputs({}), DType::kF64), Error);
  EXPECT_THROW(draw_mel_inputs({.fmax_hz = 16001}, {}, 2000, 1, 1, {1}), Error);
}

TEST(LogMelTrain, RangeJitterMovesTheBandsWithinNyquist) {
  const Tensor wave = noise(1, 2000);
  const auto plain = log_mel(wave, {}).to_vector<float>();
  int moved = 0;
  for (std::uint64_t step = 0; step < 50; ++step) {
    const auto y =
        log_mel_train(wave, {}, {.fmin_range_hz = 10, .fmax_range_hz = 2000}, 1, step, {0})
            .to_vector<float>();
    moved += y != plain;
    for (const float v : y) ASSERT_TRUE(std::isfinite(v));
  }
  EXPECT_GE(moved, 45);
}

TEST(LogMelTrain, WantsAnIdPerRow) {
  EXPECT_THROW(log_mel_train(noise(2, 2000), {}, {}, 1, 1, {0}), Error);
}

}  // namespace
}  // namespace onpa::audio
