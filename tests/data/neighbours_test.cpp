#include "data/neighbours.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"

namespace onpa::data {
namespace {

// Points of few different values, so that there are equal distances and equal points.
std::vector<float> points_of(std::int64_t n, std::int64_t columns, std::uint32_t levels,
                             std::uint64_t seed) {
  Philox rng({seed, kStreamTest, 1, 0});
  std::vector<float> points(static_cast<std::size_t>(n * columns));
  for (float& p : points) p = static_cast<float>(rng.below(levels)) / 16 - 1;
  return points;
}

std::vector<KdTree::Near> by_looking(std::span<const float> points, std::int64_t columns,
                                     std::int64_t self, std::int64_t k) {
  std::vector<KdTree::Near> all;
  for (std::int64_t i = 0; i < std::ssize(points) / columns; ++i) {
    if (i == self) continue;
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      const double d = static_cast<double>(points[static_cast<std::size_t>(self * columns + c)]) -
                       static_cast<double>(points[static_cast<std::size_t>(i * columns + c)]);
      sum += d * d;
    }
    all.push_back({i, std::sqrt(sum)});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.distance < b.distance; });
  all.resize(static_cast<std::size_t>(std::min<std::int64_t>(k, std::ssize(all))));
  return all;
}

RC_GTEST_PROP(KdTree, FindsWhatLookingAtAllFinds, ()) {
  const auto n = *rc::gen::inRange<std::int64_t>(1, 300);
  const auto columns = *rc::gen::inRange<std::int64_t>(1, 11);
  const auto levels = *rc::gen::element(1u, 2u, 5u, 1u << 20);
  const auto k = *rc::gen::inRange<std::int64_t>(0, 9);
  const std::vector<float> points =
      points_of(n, columns, levels, *rc::gen::arbitrary<std::uint64_t>());
  const KdTree tree(points, columns);
  for (std::int64_t i = 0; i < n; i += 7) {
    RC_ASSERT(tree.nearest(i, k) == by_looking(points, columns, i, k));
  }
}

TEST(KdTree, LooksAtFewOfManyPoints) {
  // Not the time but the answer: a tree deep enough that most of it is passed over.
  const std::vector<float> points = points_of(20011, 10, 1u << 20, 3);
  const KdTree tree(points, 10);
  for (const std::int64_t i : {0, 19, 4444, 20010}) {
    EXPECT_EQ(tree.nearest(i, 5), by_looking(points, 10, i, 5));
  }
}

}  // namespace
}  // namespace onpa::data
