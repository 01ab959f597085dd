#include "kernels/mel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/mel_cases.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

std::vector<float> run(const std::vector<float>& wave, std::int64_t batch, const MelSetting& s = {},
                       const MelMask* mask = nullptr) {
  const MelBank bank = mel_bank_of(s);
  MelFwd<> args = mel_args(s, batch, static_cast<std::int64_t>(wave.size()) / batch);
  std::vector<float> y(static_cast<std::size_t>(batch * s.mels * args.frames + 16), -77.0f);
  args.wave = wave.data();
  args.y = y.data();
  args.bank = bank.view();
  args.mask = mask;
  mel_fwd(Cpu{}, args);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(y[y.size() - 1 - static_cast<std::size_t>(i)], -77.0f);
  y.resize(y.size() - 16);
  return y;
}

TEST(MelBank, HasTheKnownShape) {
  const MelBank bank = make_mel_bank(128, kMelFft, kMelRate, 0, 15000);
  EXPECT_EQ(bank.weight.size(), 947u);
  ASSERT_EQ(bank.first.size(), 128u);
  ASSERT_EQ(bank.offset.size(), 129u);
  EXPECT_EQ(bank.first[0], 1);
  EXPECT_EQ(bank.offset[1], 1);
  EXPECT_NEAR(bank.weight[0], 0.188593, 1e-6);
  EXPECT_EQ(bank.first[127], 457);
  EXPECT_EQ(bank.offset[128] - bank.offset[127], 479 - 457 + 1);
  for (int row = 0; row < 128; ++row) {
    const int bins = bank.offset[row + 1] - bank.offset[row];
    EXPECT_GE(bins, 1) << row;
    EXPECT_LE(bins, 24) << row;
    EXPECT_GE(bank.first[row], 1);
    EXPECT_LE(bank.first[row] + bins, 512);
  }
}

TEST(MelBank, NeverWeighsNyquistAndKeepsEveryRowAtTheJitterLimits) {
  for (const float fmin : {0.0f, 9.0f}) {
    for (const float fmax : {14001.0f, 16000.0f}) {
      const MelBank bank = make_mel_bank(128, kMelFft, kMelRate, fmin, fmax);
      for (int row = 0; row < 128; ++row) {
        const int bins = bank.offset[row + 1] - bank.offset[row];
        EXPECT_GE(bins, 1) << "row " << row << " of " << fmin << ".." << fmax;
        EXPECT_LE(bank.first[row] + bins, 512);
      }
    }
  }
}

// Values of the public front end in float64, to five decimals.
TEST(Mel, MatchesTheGoldenTable) {
  std::vector<float> wave(32000);
  for (std::size_t n = 0; n < wave.size(); ++n) {
    const double u = static_cast<double>(n) / 32000;
    wave[n] = static_cast<float>(0.4 * std::sin(2 * std::numbers::pi * 1000 * u) +
                                 0.1 * std::sin(2 * std::numbers::pi * (200 * u + 2000 * u * u)));
  }
  const std::vector<float> y = run(wave, 1);
  ASSERT_EQ(y.size(), 128u * 100u);
  const int rows[8] = {0, 1, 10, 35, 36, 64, 100, 127};
  const struct {
    int frame;
    double value[8], mean;
  } table[] = {
      {0, {-.08157, .21005, .74678, 1.92043, 1.99732, -.80953, -1.28559, -1.35210}, -.62594},
      {1, {-1.07751, -.81844, .77976, 1.90753, 2.00113, -1.36882, -1.40114, -1.40206}, -.98472},
      {50,
       {-1.40258, -1.40255, -1.39902, 1.90728, 2.00120, -1.28293, -1.40258, -1.40259},
       -1.05573},
      {99, {-.62588, -.33723, -.34568, 1.90607, 2.00058, -.40555, -.54343, -.83955}, -.27841},
  };
  for (const auto& line : table) {
    for (int i = 0; i < 8; ++i) {
      EXPECT_NEAR(y[rows[i] * 100 + line.frame], line.value[i], 1e-4)
          << "frame " << line.frame << " mel " << rows[i];
    }
    double mean = 0;
    for (int m = 0; m < 128; ++m) mean += y[m * 100 + line.frame] / 128.0;
    EXPECT_NEAR(mean, line.mean, 1e-4) << "frame " << line.frame;
  }
}

TEST(Mel, MatchesADoubleReference) {
  for (const std::int64_t samples : kMelSamples) {
    const auto wave = normal_values<float>(samples, static_cast<std::uint64_t>(samples), 0.2);
    EXPECT_LT(max_error(run(wave, 1), mel_reference(wave, {})), 1) << samples << " samples";
  }
}

TEST(Mel, HonoursEverySetting) {
  const auto wave = normal_values<float>(kMelSettingSamples, 3, 0.2);
  for (const MelSetting& s : kMelSettings) {
    EXPECT_LT(max_error(run(wave, 1, s), mel_reference(wave, s)), 1)
        << "win " << s.win << " hop " << s.hop << " mels " << s.mels;
  }
}

TEST(Mel, SilenceIsTheLogOffset) {
  const double want = (std::log(1e-5) + 4.5) / 5;
  for (const float v : run(std::vector<float>(3333, 0.0f), 1)) EXPECT_NEAR(v, want, 1e-6);
  EXPECT_NEAR(want, -1.402585, 1e-6);
}

TEST(Mel, ABatchIsItsClipsOneByOne) {
  constexpr std::int64_t kSamples = 7001, kBatch = 3;
  const auto wave = normal_values<float>(kSamples * kBatch, 4, 0.2);
  const auto together = run(wave, kBatch);
  const std::size_t size = together.size() / kBatch;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    const auto alone =
        run(std::vector<float>(wave.begin() + b * kSamples, wave.begin() + (b + 1) * kSamples), 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + b * size)) << b;
  }
}

TEST(Mel, MasksBecomeZeroBeforeNormalisation) {
  constexpr std::int64_t kSamples = 6401, kFrames = 21;
  const auto wave = normal_values<float>(2 * kSamples, 5, 0.2);
  const MelMask masks[2] = {{.f0 = 3, .f_len = 11, .t0 = 6, .t_len = 5}, {}};
  const auto plain = run(wave, 2), masked = run(wave, 2, {}, masks);
  int filled = 0;
  for (int b = 0; b < 2; ++b) {
    for (int m = 0; m < 128; ++m) {
      for (int t = 0; t < kFrames; ++t) {
        const std::size_t i = static_cast<std::size_t>((b * 128 + m) * kFrames + t);
        const bool in = b == 0 && ((m >= 3 && m < 14) || (t >= 6 && t < 11));
        filled += in;
        if (in) {
          EXPECT_NEAR(masked[i], 0.9f, 1e-6) << m << "," << t;
        } else {
          EXPECT_EQ(masked[i], plain[i]) << b << "," << m << "," << t;
        }
      }
    }
  }
  EXPECT_EQ(filled, 11 * kFrames + 117 * 5);
}

TEST(Mel, DoesNotDependOnTheNumberOfThreads) {
  const auto wave = normal_values<float>(2 * 60001, 6, 0.2);
  const int before = thread_count();
  set_thread_count(1);
  const auto one = run(wave, 2);
  set_thread_count(3);
  const auto three = run(wave, 2);
  set_thread_count(before);
  EXPECT_EQ(one, three);
}

TEST(Mel, AnEmptyBatchIsFine) {
  const MelBank bank = mel_bank_of({});
  MelFwd<> args = mel_args({}, 0, 1000);
  args.bank = bank.view();
  mel_fwd(Cpu{}, args);
}

}  // namespace
}  // namespace onpa::kernels
