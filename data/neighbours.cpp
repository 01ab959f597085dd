#include "data/neighbours.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"

namespace onpa::data {
namespace {

constexpr std::int64_t kLeafPoints = 12;
// The distance to a box is kept up by sums and differences; by so much it may be too large.
constexpr double kBoundSlack = 1 - 1e-12;

}  // namespace

// What one query knows so far.
struct KdTree::Search {
  const float* query;
  std::int64_t self;
  std::size_t wanted;
  std::vector<double> gaps;  // squared distance to the present box, by column
  std::vector<Near> best;    // squared distances, nearest first

  bool full() const { return best.size() == wanted; }
  void offer(std::int64_t point, double squared) {
    const auto before = [&](const Near& a) {
      return a.distance < squared || (a.distance == squared && a.point < point);
    };
    if (full()) {
      if (before(best.back())) return;
      best.pop_back();
    }
    best.insert(std::partition_point(best.begin(), best.end(), before), {point, squared});
  }
};

KdTree::KdTree(std::span<const float> points, std::int64_t columns)
    : columns_(columns), points_(points.size()) {
  ONPA_CHECK(columns >= 1 && std::ssize(points) % columns == 0, "k-d tree: ", points.size(),
             " values in ", columns, " columns");
  order_.resize(points.size() / static_cast<std::size_t>(columns));
  std::iota(order_.begin(), order_.end(), 0);
  nodes_.push_back({.begin = 0, .end = size()});
  for (std::int64_t node = 0; node < std::ssize(nodes_); ++node) split(node, points);
  place_.resize(order_.size());
  for (std::int64_t i = 0; i < size(); ++i) {
    const std::int64_t point = order_[static_cast<std::size_t>(i)];
    place_[static_cast<std::size_t>(point)] = i;
    std::copy_n(points.data() + point * columns_, columns_, points_.data() + i * columns_);
  }
}

// Halves a node at the median of its widest column, unless it is small or all its points are equal.
void KdTree::split(std::int64_t index, std::span<const float> points) {
  Node node = nodes_[static_cast<std::size_t>(index)];
  if (node.end - node.begin <= kLeafPoints) return;
  const auto begin = order_.begin() + node.begin, end = order_.begin() + node.end;
  float widest = 0;
  for (std::int64_t c = 0; c < columns_; ++c) {
    float low = points[static_cast<std::size_t>(*begin * columns_ + c)], high = low;
    for (auto i = begin; i != end; ++i) {
      const float v = points[static_cast<std::size_t>(*i * columns_ + c)];
      low = std::min(low, v);
      high = std::max(high, v);
    }
    if (high - low > widest) {
      widest = high - low;
      node.column = c;
    }
  }
  if (widest == 0) return;
  const auto value = [&](std::int64_t point) {
    return points[static_cast<std::size_t>(point * columns_ + node.column)];
  };
  const auto middle = begin + (end - begin) / 2;
  std::nth_element(begin, middle, end, [&](std::int64_t a, std::int64_t b) {
    return value(a) != value(b) ? value(a) < value(b) : a < b;
  });
  node.right_low = value(*middle);
  node.left_high = value(*begin);
  for (auto i = begin; i != middle; ++i) node.left_high = std::max(node.left_high, value(*i));
  node.left = std::ssize(nodes_);
  const std::int64_t cut = middle - order_.begin();
  nodes_[static_cast<std::size_t>(index)] = node;
  nodes_.push_back({.begin = node.begin, .end = cut});
  nodes_.push_back({.begin = cut, .end = node.end});
}

void KdTree::visit(const Node& node, double bound, Search& search) const {
  if (node.left < 0) {
    for (std::int64_t i = node.begin; i < node.end; ++i) {
      const std::int64_t point = order_[static_cast<std::size_t>(i)];
      if (point == search.self) continue;
      const float* other = points_.data() + i * columns_;
      double sum = 0;
      for (std::int64_t c = 0; c < columns_; ++c) {
        const double d = static_cast<double>(search.query[c]) - static_cast<double>(other[c]);
        sum += d * d;
      }
      search.offer(point, sum);
    }
    return;
  }
  const double q = search.query[node.column];
  const double to_left = q - node.left_high, to_right = node.right_low - q;
  const bool left_first = to_left < to_right;
  const std::int64_t near = left_first ? node.left : node.left + 1;
  const std::int64_t far = left_first ? node.left + 1 : node.left;
  visit(nodes_[static_cast<std::size_t>(near)], bound, search);
  const double gap = std::max(left_first ? to_right : to_left, 0.0);
  double& known = search.gaps[static_cast<std::size_t>(node.column)];
  const double before = known;
  const double far_bound = bound - before + gap * gap;
  if (search.full() && far_bound * kBoundSlack > search.best.back().distance) return;
  known = gap * gap;
  visit(nodes_[static_cast<std::size_t>(far)], far_bound, search);
  known = before;
}

std::vector<KdTree::Near> KdTree::nearest(std::int64_t self, std::int64_t k) const {
  ONPA_CHECK(self >= 0 && self < size() && k >= 0, "k-d tree: ", k, " neighbours of point ", self,
             " of ", size());
  Search search = {.query = points_.data() + place_[static_cast<std::size_t>(self)] * columns_,
                   .self = self,
                   .wanted = static_cast<std::size_t>(std::min(k, size() - 1)),
                   .gaps = std::vector<double>(static_cast<std::size_t>(columns_)),
                   .best = {}};
  if (search.wanted == 0) return {};
  search.best.reserve(search.wanted + 1);
  visit(nodes_.front(), 0, search);
  for (Near& near : search.best) near.distance = std::sqrt(near.distance);
  return std::move(search.best);
}

}  // namespace onpa::data
