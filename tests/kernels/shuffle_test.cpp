#include "kernels/shuffle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace onpa {
namespace {

std::vector<std::uint32_t> order_of(std::uint64_t seed, std::uint64_t epoch, std::uint32_t n) {
  const ShuffledOrder order(seed, epoch, n);
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < n; ++i) out.push_back(order(i));
  return out;
}

TEST(ShuffledOrder, HasEveryElementOnce) {
  for (const std::uint32_t n : {1u, 2u, 3u, 5u, 8u, 9u, 31u, 32u, 33u, 1000u, 65536u, 100003u}) {
    std::vector<bool> seen(n);
    for (const std::uint32_t v : order_of(1, 0, n)) {
      ASSERT_LT(v, n);
      ASSERT_FALSE(seen[v]) << v << " twice among " << n;
      seen[v] = true;
    }
  }
}

TEST(ShuffledOrder, TakesTheLargestCount) {
  const ShuffledOrder order(1, 0, 0xFFFFFFFFu);
  EXPECT_LT(order(0), 0xFFFFFFFFu);
  EXPECT_NE(order(0), order(0xFFFFFFFEu));
}

TEST(ShuffledOrder, DependsOnSeedAndEpoch) {
  const auto base = order_of(1, 0, 1000);
  EXPECT_EQ(order_of(1, 0, 1000), base);
  for (const auto& other :
       {order_of(2, 0, 1000), order_of(1, 1, 1000), order_of(1ull << 32 | 1, 0, 1000)}) {
    int same = 0;
    for (std::size_t i = 0; i < base.size(); ++i) same += other[i] == base[i];
    EXPECT_LT(same, 10);  // 1 is expected of independent orders
  }
}

// Over many epochs each element comes to each place equally often, and so does each pair of
// neighbours: bounds of 5 standard deviations.
TEST(ShuffledOrder, IsEvenOverEpochs) {
  constexpr std::uint32_t kCount = 11;
  constexpr int kEpochs = 44000;
  std::vector<int> at(kCount * kCount), pair(kCount * kCount);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = order_of(3, static_cast<std::uint64_t>(epoch), kCount);
    for (std::uint32_t i = 0; i < kCount; ++i) {
      ++at[i * kCount + order[i]];
      ++pair[order[i] * kCount + order[(i + 1) % kCount]];
    }
  }
  const double expected = kEpochs / static_cast<double>(kCount);
  const double expected_pair = kEpochs / static_cast<double>(kCount - 1);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    for (std::uint32_t j = 0; j < kCount; ++j) {
      EXPECT_NEAR(at[i * kCount + j], expected, 5 * std::sqrt(expected)) << i << ' ' << j;
      const double want = i == j ? 0 : expected_pair;
      EXPECT_NEAR(pair[i * kCount + j], want, 5 * std::sqrt(want)) << i << ' ' << j;
    }
  }
}

}  // namespace
}  // namespace onpa
