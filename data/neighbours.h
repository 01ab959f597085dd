// Exact nearest neighbours among points in memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace onpa::data {

/// A k-d tree over n points of `columns` floats. Distances are Euclidean, worked out in double.
/// Equal points are fine; among equal distances the earlier point comes first.
class KdTree {
 public:
  struct Near {
    std::int64_t point = 0;
    double distance = 0;
    bool operator==(const Near&) const = default;
  };

  /// `points` (n, columns) row-major, finite, columns >= 1. They are copied.
  KdTree(std::span<const float> points, std::int64_t columns);
  /// The min(k, n - 1) points nearest to point `self`, without itself, nearest first. Thread-safe.
  std::vector<Near> nearest(std::int64_t self, std::int64_t k) const;
  std::int64_t size() const { return std::ssize(order_); }

 private:
  // A leaf holds the points order_[begin .. end); an inner node has children at `left` and
  // `left + 1`, whose points end and begin at these values of `column`.
  struct Node {
    std::int64_t begin = 0, end = 0, left = -1, column = 0;
    float left_high = 0, right_low = 0;
  };
  struct Search;
  void split(std::int64_t node, std::span<const float> points);
  void visit(const Node& node, double bound, Search& search) const;

  std::int64_t columns_;
  std::vector<std::int64_t> order_;  // place in the tree to point
  std::vector<std::int64_t> place_;  // and back
  std::vector<float> points_;        // in the tree's order
  std::vector<Node> nodes_;
};

}  // namespace onpa::data
