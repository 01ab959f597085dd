#include "data/smogn.h"

#include <algorithm>
#include <cmath>

#include "data/neighbours.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::data {
namespace {

constexpr std::int64_t kRowsPerRange = 64;

struct Input {
  std::span<const float> x;
  std::int64_t columns;
  std::span<const double> y;
  std::span<const std::int64_t> keys;
  const SmognOptions& options;

  const float* row(std::int64_t i) const { return x.data() + i * columns; }
  double target(std::int64_t i) const { return y[static_cast<std::size_t>(i)]; }
  std::int64_t key(std::int64_t i) const { return keys[static_cast<std::size_t>(i)]; }
};

double distance(const Input& in, std::int64_t a, std::int64_t b) {
  double sum = 0;
  for (std::int64_t c = 0; c < in.columns; ++c) {
    const double d = static_cast<double>(in.row(a)[c]) - static_cast<double>(in.row(b)[c]);
    sum += d * d;
  }
  return std::sqrt(sum);
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (std::ssize(values) % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

// Standard deviations (ddof 1) of the features and, last, of the target.
std::vector<double> deviations(const Input& in, const std::vector<std::int64_t>& members) {
  std::vector<double> out;
  const auto n = static_cast<double>(members.size());
  for (std::int64_t c = 0; c <= in.columns; ++c) {
    const auto value = [&](std::int64_t row) {
      return c == in.columns ? in.target(row) : static_cast<double>(in.row(row)[c]);
    };
    double sum = 0, squares = 0;
    for (const std::int64_t row : members) sum += value(row);
    for (const std::int64_t row : members)
      squares += (value(row) - sum / n) * (value(row) - sum / n);
    out.push_back(members.size() > 1 ? std::sqrt(squares / (n - 1)) : 0);
  }
  return out;
}

// A bump that gets synthetic rows.
class Maker {
 public:
  Maker(const Input& in, const Bump& bump)
      : in_(in),
        members_(bump.members),
        deviations_(deviations(in, members_)),
        tree_(gathered(in, members_), in.columns),
        measured_(choose(members_, std::min(kMedianRows, std::ssize(members_)), in.keys,
                         in.options.seed, kStreamSmognMedian, 0)) {
    const std::vector<std::int64_t> extra =
        choose(members_, bump.balance.extra, in.keys, in.options.seed, kStreamSmognChoice, 1);
    std::size_t next = 0;
    first_.push_back(0);
    for (const std::int64_t row : members_) {
      const bool one_more = next < extra.size() && extra[next] == row;
      if (one_more) ++next;
      first_.push_back(first_.back() + bump.balance.repeats + (one_more ? 1 : 0));
    }
  }

  // Appends them to `out`.
  void make(SmognSet& out, SmognBump& counts) const {
    const std::size_t start = out.y.size(), end = start + static_cast<std::size_t>(first_.back());
    out.x.resize(end * static_cast<std::size_t>(in_.columns));
    out.y.resize(end);
    out.origins.resize(end);
    kernels::parallel_for(std::ssize(members_), kRowsPerRange,
                          [&](std::int64_t begin, std::int64_t stop) {
                            for (std::int64_t i = begin; i < stop; ++i) make_of(i, start, out);
                          });
    for (std::size_t i = start; i < end; ++i) {
      ++(out.origins[i].neighbour < 0 ? counts.noisy : counts.interpolated);
    }
  }

 private:
  static std::vector<float> gathered(const Input& in, const std::vector<std::int64_t>& members) {
    std::vector<float> out;
    out.reserve(members.size() * static_cast<std::size_t>(in.columns));
    for (const std::int64_t row : members) {
      out.insert(out.end(), in.row(row), in.row(row) + in.columns);
    }
    return out;
  }

  double half_median(std::int64_t row) const {
    std::vector<double> distances;
    distances.reserve(measured_.size());
    for (const std::int64_t other : measured_) distances.push_back(distance(in_, row, other));
    return median(distances) / 2;
  }

  // All synthetic rows that member `i` is the seed row of.
  void make_of(std::int64_t i, std::size_t start, SmognSet& out) const {
    const std::int64_t row = members_[static_cast<std::size_t>(i)];
    const std::int64_t first = first_[static_cast<std::size_t>(i)];
    const std::int64_t copies = first_[static_cast<std::size_t>(i) + 1] - first;
    if (copies == 0) return;
    const std::vector<KdTree::Near> near = tree_.nearest(i, in_.options.neighbours);
    const double reach = half_median(row);
    for (std::int64_t copy = 0; copy < copies; ++copy) {
      const std::size_t place = start + static_cast<std::size_t>(first + copy);
      float* const x = out.x.data() + place * static_cast<std::size_t>(in_.columns);
      Philox rng({in_.options.seed, kStreamSmogn, static_cast<std::uint64_t>(copy),
                  static_cast<std::uint64_t>(in_.key(row))});
      const KdTree::Near* chosen =
          near.empty() ? nullptr : &near[rng.below(static_cast<std::uint32_t>(near.size()))];
      if (chosen != nullptr && chosen->distance < reach) {
        out.origins[place] = between(row, *chosen, rng, x, out.y[place]);
      } else {
        out.origins[place] = around(row, reach, rng, x, out.y[place]);
      }
    }
  }

  // On the line between two rows the distances to them are as `weight` to 1 - weight, so weighting
  // the targets by inverse distance is to interpolate them as the features.
  SmognOrigin between(std::int64_t row, const KdTree::Near& near, Philox& rng, float* x,
                      double& y) const {
    const std::int64_t other = members_[static_cast<std::size_t>(near.point)];
    const double weight = near.distance > 0 ? rng.uniform() : 0.5;
    for (std::int64_t c = 0; c < in_.columns; ++c) {
      const double from = in_.row(row)[c], to = in_.row(other)[c];
      x[c] = static_cast<float>(from + weight * (to - from));
    }
    y = (1 - weight) * in_.target(row) + weight * in_.target(other);
    return {row, other, weight};
  }

  SmognOrigin around(std::int64_t row, double reach, Philox& rng, float* x, double& y) const {
    const double size = std::min(in_.options.perturbation, reach);
    for (std::int64_t c = 0; c < in_.columns; ++c) {
      const double deviation = deviations_[static_cast<std::size_t>(c)];
      x[c] = static_cast<float>(in_.row(row)[c] + size * deviation * rng.normal());
    }
    y = in_.target(row) + size * deviations_.back() * rng.normal();
    return {row, -1, size};
  }

  const Input& in_;
  const std::vector<std::int64_t>& members_;
  std::vector<double> deviations_;
  KdTree tree_;
  std::vector<std::int64_t> measured_;  // what median distances are taken over
  std::vector<std::int64_t> first_;     // by member, its first synthetic row; then their number
};

void check(const Input& in) {
  ONPA_CHECK(in.columns >= 1 && std::ssize(in.x) == in.columns * std::ssize(in.y) &&
                 in.keys.size() == in.y.size(),
             "smogn: ", in.x.size(), " features in ", in.columns, " columns, ", in.y.size(),
             " targets, ", in.keys.size(), " keys");
  ONPA_CHECK(in.options.neighbours >= 1 && in.options.perturbation >= 0,
             "smogn: ", in.options.neighbours, " neighbours, perturbation ",
             in.options.perturbation);
  for (std::size_t i = 0; i < in.x.size(); ++i) {
    if (std::isfinite(in.x[i])) continue;
    fail(ExitCode::kBadData, "smogn: row ", i / static_cast<std::size_t>(in.columns), ", column ",
         i % static_cast<std::size_t>(in.columns), " is ", in.x[i]);
  }
}

}  // namespace

SmognSet smogn(std::span<const float> x, std::int64_t columns, std::span<const double> y,
               std::span<const std::int64_t> keys, const SmognOptions& options) {
  const Input in = {x, columns, y, keys, options};
  check(in);
  SmognSet out;
  for (Bump& bump : bumps_of(y, options.threshold)) {
    out.bumps.push_back({.bump = std::move(bump)});
    SmognBump& made = out.bumps.back();
    const std::vector<std::int64_t> kept = choose(made.bump.members, made.bump.balance.kept, keys,
                                                  options.seed, kStreamSmognChoice, 0);
    out.kept.insert(out.kept.end(), kept.begin(), kept.end());
    if (made.bump.balance.added(std::ssize(made.bump.members)) == 0) continue;
    Maker(in, made.bump).make(out, made);
  }
  std::sort(out.kept.begin(), out.kept.end());
  return out;
}

}  // namespace onpa::data
