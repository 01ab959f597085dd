// How sure the study's figures are: intervals, tests, and errors that every popularity counts in
// alike.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace onpa::apps {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// From `low` to `high`; NaN where nothing is known.
struct Interval {
  double low = kUnknown, high = kUnknown;
};

/// Percentile intervals of the means of columns, from resamples of the rows with replacement.
/// `columns` have n >= 1 values each. A draw takes the same rows of all columns, so a column of
/// differences gives the interval of a paired comparison. Depends on (seed, draws) and the values
/// alone. Throws Error for lengths that differ, n == 0, draws < 1 or a confidence outside (0, 1).
/// Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
std::vector<Interval> bootstrap_means(std::span<const std::span<const double>> columns,
                                      std::uint64_t seed, int draws = 1000,
                                      double confidence = 0.95);

struct ErrorIntervals {
  Interval mae, rmse;  // in the units of the errors
};
/// Of `errors` (n >= 1), target - prediction. Throws as bootstrap_means().
ErrorIntervals bootstrap_errors(std::span<const double> errors, std::uint64_t seed,
                                int draws = 1000, double confidence = 0.95);

struct Wilcoxon {
  std::int64_t n = 0;           // pairs that differ
  double statistic = kUnknown;  // the smaller of the sums of ranks of positive and negative ones
  double z = kUnknown;          // of the statistic in the normal approximation; not over 0
  double p = kUnknown;          // two-sided
};
/// Signed-rank test of a - b, paired. Pairs that are equal are dropped, ties share their mean rank.
/// p is exact up to 50 pairs (13 where some are tied or equal), else of the normal approximation
/// without a correction for continuity. Where no pair differs z is NaN, and p too of more than 13
/// pairs; all are NaN without pairs or with a NaN. Throws Error if the lengths differ. Parity:
/// scipy.stats.wilcoxon; z is that of method="asymptotic".
Wilcoxon wilcoxon_signed_rank(std::span<const double> a, std::span<const double> b);

struct Correlation {
  std::int64_t n = 0;
  double r = kUnknown;
  double p = kUnknown;  // two-sided, from Student's t with n - 2 degrees of freedom
};
/// Spearman's rank correlation; ties share their mean rank. r and p are NaN for a constant vector,
/// a NaN or n < 2. Throws Error if the lengths differ. Parity: scipy.stats.spearmanr.
Correlation spearman(std::span<const double> a, std::span<const double> b);

/// Ranks from 1, ascending; equal values share the mean of theirs. No NaN.
/// Parity: scipy.stats.rankdata.
std::vector<double> mean_ranks(std::span<const double> values);

/// Errors of the tracks whose popularity is in [low, high); the last bin ends with 100 included.
struct BinError {
  double low = 0, high = 0;  // popularity points
  std::int64_t n = 0;
  double mae = kUnknown, mse = kUnknown;  // NaN where n == 0
};
/// `popularity` in [0, 100] and `errors` (any units) of the same tracks; bins of `width` points,
/// from 0. Throws Error if the lengths differ, or for a width or popularity out of range.
std::vector<BinError> errors_by_bin(std::span<const double> popularity,
                                    std::span<const double> errors, double width = 5);

/// Errors as if all popularities were equally frequent.
struct BinBalanced {
  double bin_width = 5;
  std::int64_t bins = 0;                   // that have tracks
  double rmse = kUnknown, mae = kUnknown;  // root of the mean, and mean, over the bins
};
BinBalanced bin_balanced(std::span<const BinError> bins);

}  // namespace onpa::apps
