#include "kernels/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace onpa {
namespace {

// Known answers published with the Random123 library for philox4x32-10.
TEST(Philox, KnownAnswers) {
  const std::uint32_t zero[4] = {0, 0, 0, 0};
  std::uint32_t out[4];
  philox4x32(zero, 0, 0, out);
  EXPECT_EQ(std::vector<std::uint32_t>(out, out + 4),
            (std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones[4] = {~0u, ~0u, ~0u, ~0u};
  philox4x32(ones, ~0u, ~0u, out);
  EXPECT_EQ(std::vector<std::uint32_t>(out, out + 4),
            (std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  const std::uint32_t pi[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
  philox4x32(pi, 0xa4093822, 0x299f31d0, out);
  EXPECT_EQ(std::vector<std::uint32_t>(out, out + 4),
            (std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryPartOfTheKeyMatters) {
  const auto first = [](const RngKey& key) { return Philox(key).next_u32(); };
  const std::uint32_t base = first({.seed = 1, .stream = 2, .step = 3, .sample = 4});
  EXPECT_NE(base, first({.seed = 2, .stream = 2, .step = 3, .sample = 4}));
  EXPECT_NE(base, first({.seed = 1ull << 32, .stream = 2, .step = 3, .sample = 4}));
  EXPECT_NE(base, first({.seed = 1, .stream = 3, .step = 3, .sample = 4}));
  EXPECT_NE(base, first({.seed = 1, .stream = 2, .step = 4, .sample = 4}));
  EXPECT_NE(base, first({.seed = 1, .stream = 2, .step = 3, .sample = 5}));
}

TEST(Philox, MomentsAndRange) {
  Philox rng({.seed = 7, .stream = kStreamTest});
  constexpr int kCount = 200000;
  double sum = 0, squares = 0, uniform_sum = 0;
  for (int i = 0; i < kCount; ++i) {
    const double z = rng.normal();
    sum += z;
    squares += z * z;
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    uniform_sum += u;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 0.01);
  EXPECT_NEAR(squares / kCount, 1.0, 0.02);
  EXPECT_NEAR(uniform_sum / kCount, 0.5, 0.005);
}

TEST(Philox, BelowIsUniform) {
  Philox rng({.seed = 3, .stream = kStreamTest});
  std::vector<int> histogram(7);
  for (int i = 0; i < 70000; ++i) ++histogram[rng.below(7)];
  for (const int count : histogram) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(rng.below(1), 0u);
}

TEST(Philox, ShuffleIsAPermutation) {
  std::vector<int> values(100);
  std::iota(values.begin(), values.end(), 0);
  std::vector<int> shuffled = values;
  Philox({.seed = 1, .stream = kStreamTest}).shuffle(shuffled);
  EXPECT_NE(shuffled, values);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, values);
}

}  // namespace
}  // namespace onpa
