// How much a target's value matters where rare values matter most, and the parts into which that
// divides the targets. Source: Ribeiro, "Utility-based regression", PhD thesis, University of
// Porto, 2011; Branco, Torgo, Ribeiro, "SMOGN", PMLR 74, 2017. Parity: R package UBL,
// phi.control(method = "extremes", extr.type = "both", coef = 1.5), phi(), and C.perc = "balance".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace onpa::data {

/// Relevance of target values, [0, 1]: 0 at the median; on a side on which the box plot has
/// outliers (beyond 1.5 times the distance of the hinges) it rises to 1 at the whisker and stays
/// there; on a side without, it is 0. Between these points it is the monotone piecewise cubic with
/// slope 0 at each of them.
class Relevance {
 public:
  /// `targets` in any order. Throws Error (kBadData) if there is none or one is not finite.
  static Relevance fit(std::span<const double> targets);
  double operator()(double target) const;

  double median() const { return median_; }
  /// The whisker where outliers lie beyond it, else the smallest (largest) target.
  double low() const { return low_; }
  double high() const { return high_; }
  bool low_is_rare() const { return low_is_rare_; }
  bool high_is_rare() const { return high_is_rare_; }

 private:
  double low_ = 0, median_ = 0, high_ = 0;
  bool low_is_rare_ = false, high_is_rare_ = false;
};

/// How often the members of a bump are used: `repeats` times each and, of `extra` of them, once
/// more; or, for a large bump, only `kept` of them.
struct BumpBalance {
  std::int64_t kept = 0;     // of the members themselves
  std::int64_t repeats = 0;  // additions for each member
  std::int64_t extra = 0;    // members that get one more
  std::int64_t added(std::int64_t members) const { return repeats * members + extra; }
};

/// Targets next to each other in value that are all rare (relevance >= threshold) or all normal.
struct Bump {
  std::vector<std::int64_t> members;  // places in the list of targets, by (target, place)
  bool rare = false;
  double low = 0, high = 0;  // smallest and largest target
  BumpBalance balance;
};

/// The bumps of `targets` in ascending order, balanced: each is brought to round(n / bumps) (halves
/// to even), in UBL's arithmetic, so that the counts are equal to its. One bump is left as it is.
/// Throws as Relevance::fit().
std::vector<Bump> bumps_of(std::span<const double> targets, double threshold);

/// `count` members of `members`, drawn without replacement, in their order. Which ones depends on
/// (seed, stream, step) and for each member on its key alone: `keys[member]`, < 2^32.
std::vector<std::int64_t> choose(const std::vector<std::int64_t>& members, std::int64_t count,
                                 std::span<const std::int64_t> keys, std::uint64_t seed,
                                 std::uint32_t stream, std::uint64_t step);

}  // namespace onpa::data
