#include "audio/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "tests/support/gradcheck.h"

namespace onpa::audio {
namespace {

using onpa::testing::random_normal;

RngKey key(std::uint64_t sample, std::uint64_t step = 0) {
  return {.seed = 7, .stream = kStreamTest, .step = step, .sample = sample};
}
std::vector<float> ramp(std::size_t n) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), 1.0f);
  return v;
}
double mean(std::span<const float> v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

TEST(RandomGain, IsAWholeNumberOfDecibelsInRange) {
  std::map<int, int> seen;
  for (std::uint64_t i = 0; i < 1400; ++i) {
    std::vector<float> wave{1.0f, -0.5f};
    random_gain(wave, -7, 6, key(i));
    const double db = 20 * std::log10(wave[0]);
    EXPECT_NEAR(db, std::round(db), 1e-5);
    EXPECT_FLOAT_EQ(wave[1], -0.5f * wave[0]);
    ++seen[static_cast<int>(std::round(db))];
  }
  EXPECT_EQ(seen.begin()->first, -7);
  EXPECT_EQ(seen.rbegin()->first, 6);
  // 100 expected of each, standard deviation under 10.
  for (const auto& [db, count] : seen) EXPECT_NEAR(count, 100, 45) << db << " dB";
}

TEST(RandomRoll, RotatesWithinItsBounds) {
  std::set<std::int64_t> seen;
  for (std::uint64_t i = 0; i < 400; ++i) {
    std::vector<float> wave = ramp(31);
    random_roll(wave, 3, key(i));
    std::int64_t shift = std::find(wave.begin(), wave.end(), 1.0f) - wave.begin();
    if (shift > 15) shift -= 31;
    seen.insert(shift);
    std::vector<float> want = ramp(31);
    std::rotate(want.begin(), want.begin() + (31 - shift) % 31, want.end());
    EXPECT_EQ(wave, want);
  }
  EXPECT_EQ(seen, (std::set<std::int64_t>{-3, -2, -1, 0, 1, 2, 3}));
}

TEST(RandomRoll, AcceptsShiftsBeyondTheWaveAndEmptyWaves) {
  std::vector<float> wave = ramp(5), empty;
  random_roll(wave, 1000, key(1));
  std::sort(wave.begin(), wave.end());
  EXPECT_EQ(wave, ramp(5));
  random_roll(empty, 10, key(1));
  EXPECT_TRUE(empty.empty());
}

TEST(FitLength, PadsAtTheEndAndCropsWhereAsked) {
  EXPECT_EQ(fit_length(ramp(3), 5, true, key(0)), (std::vector<float>{1, 2, 3, 0, 0}));
  EXPECT_EQ(fit_length(ramp(5), 3, false, key(0)), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(fit_length(ramp(4), 4, true, key(0)), ramp(4));
  EXPECT_TRUE(fit_length(ramp(4), 0, true, key(0)).empty());
  EXPECT_EQ(fit_length({}, 2, true, key(0)), (std::vector<float>{0, 0}));
  std::set<float> starts;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto crop = fit_length(ramp(8), 5, true, key(i));
    ASSERT_EQ(crop.size(), 5u);
    EXPECT_EQ(crop[4] - crop[0], 4.0f);
    starts.insert(crop[0]);
  }
  EXPECT_EQ(starts, (std::set<float>{1, 2, 3, 4}));
}

TEST(MixupWave, MixesMeanFreeWavesWithTheLargerWeightFirst) {
  for (std::uint64_t i = 0; i < 50; ++i) {
    std::vector<float> a(1001), b(1001);
    for (std::size_t k = 0; k < a.size(); ++k) {
      a[k] = std::sin(0.1f * static_cast<float>(k)) + 0.5f;
      b[k] = std::cos(0.37f * static_cast<float>(k)) - 0.25f;
    }
    std::vector<float> mixed = a;
    const float w = mixup_wave(mixed, b, key(i));
    EXPECT_GE(w, 0.5f);
    EXPECT_LE(w, 1.0f);
    EXPECT_NEAR(mean(mixed), 0, 1e-7);
    const double mean_a = mean(a), mean_b = mean(b);
    for (std::size_t k = 0; k < a.size(); ++k) {
      EXPECT_NEAR(mixed[k], w * (a[k] - mean_a) + (1 - w) * (b[k] - mean_b), 1e-6);
    }
  }
}

TEST(MixupWave, RefusesDifferentLengths) {
  std::vector<float> a(3), b(4);
  EXPECT_THROW(mixup_wave(a, b, key(0)), Error);
}

TEST(Augmentation, RepeatsForTheSameKeyOnly) {
  std::vector<float> a = ramp(100), b = ramp(100), c = ramp(100);
  random_roll(a, 40, key(1, 5));
  random_roll(b, 40, key(1, 5));
  random_roll(c, 40, key(1, 6));
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

// Mean a / (a + b) and variance ab / ((a + b)^2 (a + b + 1)), within four standard errors.
TEST(DrawBeta, HasTheMomentsOfBeta) {
  for (const auto& [a, b] : {std::pair{2.0, 2.0}, {0.3, 0.3}, {1.0, 3.0}, {0.01, 0.01}}) {
    Philox rng(key(static_cast<std::uint64_t>(a * 100)));
    constexpr int kDraws = 20000;
    double sum = 0, squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double v = draw_beta(rng, a, b);
      ASSERT_GE(v, 0);
      ASSERT_LE(v, 1);
      sum += v;
      squares += v * v;
    }
    const double got = sum / kDraws, variance = squares / kDraws - got * got;
    const double want = a / (a + b), want_variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    EXPECT_NEAR(got, want, 4 * std::sqrt(want_variance / kDraws)) << a << ", " << b;
    EXPECT_NEAR(variance, want_variance, 0.03 * want_variance + 1e-4) << a << ", " << b;
  }
}

TEST(DrawMixup, IsAPermutationWithWeightsOfAtLeastHalf) {
  const MixupPlan plan = draw_mixup(64, 0.3f, 1, 2);
  std::vector<std::int32_t> sorted = plan.partner, want(64);
  std::sort(sorted.begin(), sorted.end());
  std::iota(want.begin(), want.end(), 0);
  EXPECT_EQ(sorted, want);
  EXPECT_NE(plan.partner, want);
  for (const float w : plan.weight) {
    EXPECT_GE(w, 0.5f);
    EXPECT_LE(w, 1.0f);
  }
  EXPECT_EQ(draw_mixup(64, 0.3f, 1, 2).weight, plan.weight);
  EXPECT_NE(draw_mixup(64, 0.3f, 1, 3).weight, plan.weight);
  EXPECT_TRUE(draw_mixup(0, 0.3f, 1, 2).partner.empty());
}

TEST(ApplyMixup, MixesEachRowWithItsPartner) {
  const Tensor x = random_normal({3, 5, 7}, 1, 1, DType::kF32);
  const MixupPlan plan{.partner = {2, 0, 1}, .weight = {0.75f, 1.0f, 0.5f}};
  const Tensor y = apply_mixup(x, plan);
  ASSERT_EQ(y.shape(), x.shape());
  for (int b = 0; b < 3; ++b) {
    for (int i = 0; i < 35; ++i) {
      const double w = plan.weight[b];
      EXPECT_NEAR(
          y.data<float>()[b * 35 + i],
          w * x.data<float>()[b * 35 + i] + (1 - w) * x.data<float>()[plan.partner[b] * 35 + i],
          1e-6);
    }
  }
  EXPECT_THROW(apply_mixup(x, {.partner = {0, 1}, .weight = {1, 1}}), Error);
  EXPECT_THROW(apply_mixup(x, {.partner = {0, 1, 3}, .weight = {1, 1, 1}}), Error);
}

}  // namespace
}  // namespace onpa::audio
