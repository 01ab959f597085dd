#include "data/relevance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::data {
namespace {

constexpr double kWhiskerReach = 1.5;  // in distances of the hinges

// The cubic from (0, a) to (length, b) with slope 0 at both ends, in the arithmetic of UBL.
double cubic(double a, double b, double length, double s) {
  const double delta = (b - a) / length;
  return a + s * s * (3 * delta / length + s * (-2 * delta / (length * length)));
}

// Of sorted values, at place `d` counted from 1; between two places their mean.
double at_depth(const std::vector<double>& sorted, double d) {
  return 0.5 * (sorted[static_cast<std::size_t>(std::floor(d)) - 1] +
                sorted[static_cast<std::size_t>(std::ceil(d)) - 1]);
}

void balance(std::vector<Bump>& bumps, std::int64_t total) {
  const double each =
      std::nearbyint(static_cast<double>(total) / static_cast<double>(bumps.size()));
  for (Bump& bump : bumps) {
    const auto size = static_cast<double>(bump.members.size());
    const double share = each / size;
    BumpBalance& out = bump.balance;
    out.kept = std::ssize(bump.members);
    if (share > 1) {
      out.repeats = static_cast<std::int64_t>(share - 1);
      out.extra = static_cast<std::int64_t>(size * (share - 1 - static_cast<double>(out.repeats)));
    } else if (share < 1) {
      out.kept = static_cast<std::int64_t>(share * size);
    }
  }
}

}  // namespace

Relevance Relevance::fit(std::span<const double> targets) {
  if (targets.empty()) fail(ExitCode::kBadData, "relevance: no targets to fit on");
  std::vector<double> sorted(targets.begin(), targets.end());
  for (const double y : sorted) {
    if (!std::isfinite(y)) fail(ExitCode::kBadData, "relevance: a target is ", y);
  }
  std::sort(sorted.begin(), sorted.end());
  // Tukey's hinges.
  const auto n = static_cast<double>(sorted.size());
  const double depth = std::floor((n + 3) / 2) / 2;
  const double lower = at_depth(sorted, depth), upper = at_depth(sorted, n + 1 - depth);
  const double reach = kWhiskerReach * (upper - lower);
  Relevance out;
  out.median_ = at_depth(sorted, (n + 1) / 2);
  // What is not an outlier lies in one piece and holds the hinges.
  const auto first = std::lower_bound(sorted.begin(), sorted.end(), lower - reach);
  const auto last = std::upper_bound(sorted.begin(), sorted.end(), upper + reach);
  out.low_ = *first;
  out.high_ = *(last - 1);
  out.low_is_rare_ = first != sorted.begin();
  out.high_is_rare_ = last != sorted.end();
  return out;
}

double Relevance::operator()(double target) const {
  if (target < median_) {
    if (!low_is_rare_) return 0;
    return target <= low_ ? 1 : cubic(1, 0, median_ - low_, target - low_);
  }
  if (target == median_ || !high_is_rare_) return 0;
  return target >= high_ ? 1 : cubic(0, 1, high_ - median_, target - median_);
}

std::vector<Bump> bumps_of(std::span<const double> targets, double threshold) {
  const Relevance relevance = Relevance::fit(targets);
  std::vector<std::int64_t> order(targets.size());
  std::iota(order.begin(), order.end(), 0);
  const auto target = [&](std::int64_t i) { return targets[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return target(a) < target(b); });
  std::vector<Bump> bumps;
  for (const std::int64_t place : order) {
    const bool rare = relevance(target(place)) >= threshold;
    if (bumps.empty() || bumps.back().rare != rare) {
      bumps.emplace_back();
      bumps.back().rare = rare;
      bumps.back().low = target(place);
    }
    bumps.back().members.push_back(place);
    bumps.back().high = target(place);
  }
  balance(bumps, std::ssize(targets));
  return bumps;
}

std::vector<std::int64_t> choose(const std::vector<std::int64_t>& members, std::int64_t count,
                                 std::span<const std::int64_t> keys, std::uint64_t seed,
                                 std::uint32_t stream, std::uint64_t step) {
  ONPA_CHECK(count >= 0 && count <= std::ssize(members), "choose: ", count, " of ", members.size());
  if (count == std::ssize(members)) return members;
  struct Drawn {
    double draw;
    std::int64_t key, place;
  };
  std::vector<Drawn> drawn;
  drawn.reserve(members.size());
  for (std::int64_t i = 0; i < std::ssize(members); ++i) {
    const std::int64_t key = keys[static_cast<std::size_t>(members[static_cast<std::size_t>(i)])];
    drawn.push_back(
        {Philox({seed, stream, step, static_cast<std::uint64_t>(key)}).uniform(), key, i});
  }
  std::nth_element(drawn.begin(), drawn.begin() + count, drawn.end(),
                   [](const Drawn& a, const Drawn& b) {
                     return a.draw != b.draw ? a.draw < b.draw : a.key < b.key;
                   });
  drawn.resize(static_cast<std::size_t>(count));
  std::vector<std::int64_t> places;
  for (const Drawn& d : drawn) places.push_back(d.place);
  std::sort(places.begin(), places.end());
  for (std::int64_t& place : places) place = members[static_cast<std::size_t>(place)];
  return places;
}

}  // namespace onpa::data
