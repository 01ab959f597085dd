// Regression metrics, ranks and the baselines that every table carries.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace onpa::apps {

/// Errors of predictions against targets, in the units of the targets.
struct RegressionMetrics {
  std::int64_t n = 0;
  double rmse = 0;
  double mae = 0;
  double r2 = 0;  // 1 - SSE / SST; NaN where the targets are constant or n < 2
};

/// `target` and `prediction` (n) in the same units, n >= 1. Sums are in double.
/// Throws Error if the lengths differ or n == 0.
/// Parity: sklearn.metrics mean_squared_error (root), mean_absolute_error, r2_score.
RegressionMetrics regression_metrics(std::span<const float> target,
                                     std::span<const float> prediction);

/// Rank of each value in ascending order, 1 the smallest. Equal values share the smallest of their
/// ranks and the next value skips the rest, so ranks do not depend on the order of the input.
/// Throws Error for a NaN. Parity: scipy.stats.rankdata(method="min").
std::vector<std::int64_t> ranks_ascending(std::span<const double> values);

/// A linear model with an intercept, fitted by least squares.
struct LinearModel {
  std::vector<double> mean, scale;  // (C) of the training features
  std::vector<double> weight;       // (C) on scaled features
  double intercept = 0;

  /// `x` (rows, C) row-major to (rows) predictions.
  std::vector<float> predict(std::span<const float> x) const;
};

/// Fits to `x` (rows, C) row-major and `y` (rows): normal equations on standardised features,
/// solved by Cholesky with a ridge of 1e-9 of the mean diagonal, which only decides what happens
/// with collinear columns. A constant column gets weight 0. Throws Error if sizes disagree or rows
/// == 0. Parity: sklearn.linear_model.LinearRegression.
LinearModel fit_linear(std::span<const float> x, std::span<const float> y, std::int64_t columns);

/// Mean absolute error's difference between two models on the same tracks, with its interval from a
/// paired bootstrap.
struct PairedDifference {
  double mean = 0, low = 0, high = 0;
};

/// Mean of |a error| - |b error| (n >= 1 each, paired) and its percentile interval, as of
/// bootstrap_means(). Throws Error if the lengths differ or n == 0.
PairedDifference bootstrap_mae_difference(std::span<const double> a_errors,
                                          std::span<const double> b_errors, std::uint64_t seed,
                                          int draws = 1000, double confidence = 0.95);

}  // namespace onpa::apps
