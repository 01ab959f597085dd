#include "apps/study/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "apps/study/statistics.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

// Lower triangle of the Cholesky factor in place; `a` is (n, n) row-major, positive definite.
void cholesky(std::vector<double>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    double diagonal = a[j * n + j];
    for (std::size_t k = 0; k < j; ++k) diagonal -= a[j * n + k] * a[j * n + k];
    ONPA_CHECK(diagonal > 0, "fit_linear: the normal equations are not positive definite");
    a[j * n + j] = std::sqrt(diagonal);
    for (std::size_t i = j + 1; i < n; ++i) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = sum / a[j * n + j];
    }
  }
}

// Solves L L^T x = b in place.
void cholesky_solve(const std::vector<double>& l, std::size_t n, std::vector<double>& b) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= l[i * n + k] * b[k];
    b[i] /= l[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= l[k * n + i] * b[k];
    b[i] /= l[i * n + i];
  }
}

// Means and standard deviations of the columns of `x`; 0 for a constant column.
void column_statistics(std::span<const float> x, std::size_t rows, std::size_t columns,
                       LinearModel& model) {
  model.mean.assign(columns, 0);
  model.scale.assign(columns, 0);
  for (std::size_t c = 0; c < columns; ++c) {
    double sum = 0, squares = 0;
    for (std::size_t r = 0; r < rows; ++r) sum += x[r * columns + c];
    const double mean = sum / static_cast<double>(rows);
    for (std::size_t r = 0; r < rows; ++r) {
      squares += (x[r * columns + c] - mean) * (x[r * columns + c] - mean);
    }
    model.mean[c] = mean;
    const double deviation = std::sqrt(squares / static_cast<double>(rows));
    model.scale[c] = deviation > 1e-12 * std::abs(mean) ? deviation : 0;
  }
}

}  // namespace

RegressionMetrics regression_metrics(std::span<const float> target,
                                     std::span<const float> prediction) {
  ONPA_CHECK(target.size() == prediction.size() && !target.empty(),
             "regression_metrics: ", target.size(), " targets and ", prediction.size(),
             " predictions, want as many, at least 1");
  const auto n = static_cast<double>(target.size());
  const double mean = std::accumulate(target.begin(), target.end(), 0.0) / n;
  double squared = 0, absolute = 0, total = 0;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double y = target[i], error = y - prediction[i];
    squared += error * error;
    absolute += std::abs(error);
    total += (y - mean) * (y - mean);
  }
  RegressionMetrics out;
  out.n = static_cast<std::int64_t>(target.size());
  out.rmse = std::sqrt(squared / n);
  out.mae = absolute / n;
  out.r2 = total > 0 ? 1 - squared / total : std::numeric_limits<double>::quiet_NaN();
  return out;
}

std::vector<std::int64_t> ranks_ascending(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  for (const double v : sorted) ONPA_CHECK(!std::isnan(v), "ranks_ascending: a value is NaN");
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::int64_t> ranks;
  ranks.reserve(values.size());
  for (const double v : values) {
    ranks.push_back(std::lower_bound(sorted.begin(), sorted.end(), v) - sorted.begin() + 1);
  }
  return ranks;
}

LinearModel fit_linear(std::span<const float> x, std::span<const float> y, std::int64_t columns) {
  const std::size_t rows = y.size(), c = static_cast<std::size_t>(columns);
  ONPA_CHECK(rows > 0 && columns >= 0 && x.size() == rows * c, "fit_linear: ", x.size(),
             " features for ", rows, " rows of ", columns, " columns");
  LinearModel model;
  column_statistics(x, rows, c, model);
  model.intercept = std::accumulate(y.begin(), y.end(), 0.0) / static_cast<double>(rows);
  std::vector<double> gram(c * c, 0), moment(c, 0), z(c);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < c; ++i) {
      z[i] = model.scale[i] > 0 ? (x[r * c + i] - model.mean[i]) / model.scale[i] : 0;
    }
    for (std::size_t i = 0; i < c; ++i) {
      moment[i] += z[i] * (y[r] - model.intercept);
      for (std::size_t j = 0; j <= i; ++j) gram[i * c + j] += z[i] * z[j];
    }
  }
  // Standardised columns have diagonal `rows`, so this is the mean diagonal.
  const double ridge = 1e-9 * static_cast<double>(rows);
  for (std::size_t i = 0; i < c; ++i) gram[i * c + i] += ridge;
  cholesky(gram, c);
  cholesky_solve(gram, c, moment);
  model.weight = std::move(moment);
  return model;
}

std::vector<float> LinearModel::predict(std::span<const float> x) const {
  const std::size_t c = weight.size();
  ONPA_CHECK(c == 0 || x.size() % c == 0, "LinearModel: ", x.size(), " features, want rows of ", c);
  std::vector<float> out;
  for (std::size_t begin = 0; c > 0 && begin < x.size(); begin += c) {
    double sum = intercept;
    for (std::size_t i = 0; i < c; ++i) {
      if (scale[i] > 0) sum += weight[i] * (x[begin + i] - mean[i]) / scale[i];
    }
    out.push_back(static_cast<float>(sum));
  }
  return out;
}

PairedDifference bootstrap_mae_difference(std::span<const double> a_errors,
                                          std::span<const double> b_errors, std::uint64_t seed,
                                          int draws, double confidence) {
  ONPA_CHECK(a_errors.size() == b_errors.size() && !a_errors.empty(),
             "bootstrap_mae_difference: ", a_errors.size(), " and ", b_errors.size(),
             " errors, want as many, at least 1");
  const std::size_t n = a_errors.size();
  std::vector<double> difference(n);
  for (std::size_t i = 0; i < n; ++i) {
    difference[i] = std::abs(a_errors[i]) - std::abs(b_errors[i]);
  }
  const double sum = std::accumulate(difference.begin(), difference.end(), 0.0);
  const std::span<const double> columns[] = {difference};
  const Interval interval = bootstrap_means(columns, seed, draws, confidence).front();
  return {sum / static_cast<double>(n), interval.low, interval.high};
}

}  // namespace onpa::apps
