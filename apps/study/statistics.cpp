#include "apps/study/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

bool any_nan(std::span<const double> values) {
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); });
}

// For each group of equal values of what is sorted: f(first, last), places in it.
template <class F>
void for_each_tie(std::span<const double> sorted, F&& f) {
  for (std::size_t first = 0; first < sorted.size();) {
    std::size_t last = first + 1;
    while (last < sorted.size() && sorted[last] == sorted[first]) ++last;
    f(first, last);
    first = last;
  }
}

double normal_two_sided(double z) {
  return std::erfc(std::abs(z) / std::sqrt(2.0));
}

// Exact two-sided p of the sum of positive ranks: each rank is positive with probability 1/2.
// Twice a rank is whole, ties or not; there are at most 2^50 outcomes, which a double counts.
double exact_p(std::span<const double> ranks, double r_plus) {
  std::vector<double> ways = {1};  // of each doubled sum
  for (const double rank : ranks) {
    const auto step = static_cast<std::size_t>(std::lround(2 * rank));
    std::vector<double> next(ways.size() + step, 0);
    for (std::size_t s = 0; s < ways.size(); ++s) {
      next[s] += ways[s];
      next[s + step] += ways[s];
    }
    ways = std::move(next);
  }
  const auto at = static_cast<std::ptrdiff_t>(std::lround(2 * r_plus));
  const double below = std::accumulate(ways.begin(), ways.begin() + at + 1, 0.0);
  const double above = std::accumulate(ways.begin() + at, ways.end(), 0.0);
  return std::min(1.0, 2 * std::ldexp(std::min(below, above), -static_cast<int>(ranks.size())));
}

// The value below which a share q of the sorted draws lies.
double percentile(std::span<const double> sorted, double q) {
  return sorted[static_cast<std::size_t>(
      std::lround(q * static_cast<double>(std::ssize(sorted) - 1)))];
}

}  // namespace

std::vector<Interval> bootstrap_means(std::span<const std::span<const double>> columns,
                                      std::uint64_t seed, int draws, double confidence) {
  const std::size_t n = columns.empty() ? 0 : columns.front().size();
  ONPA_CHECK(n > 0 && n <= UINT32_MAX && draws >= 1, "bootstrap: ", n, " values and ", draws,
             " draws, want at least 1");
  ONPA_CHECK(confidence > 0 && confidence < 1, "bootstrap: confidence ", confidence,
             ", want between 0 and 1");
  for (const auto& column : columns) {
    ONPA_CHECK(column.size() == n, "bootstrap: ", column.size(), " values beside ", n);
  }
  const auto count = static_cast<std::size_t>(draws);
  std::vector<std::vector<double>> means(columns.size(), std::vector<double>(count));
  kernels::parallel_for(draws, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> sums(columns.size());
    for (std::int64_t draw = begin; draw < end; ++draw) {
      Philox rng(
          {.seed = seed, .stream = kStreamBootstrap, .step = static_cast<std::uint64_t>(draw)});
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t row = rng.below(static_cast<std::uint32_t>(n));
        for (std::size_t c = 0; c < columns.size(); ++c) sums[c] += columns[c][row];
      }
      for (std::size_t c = 0; c < columns.size(); ++c) {
        means[c][static_cast<std::size_t>(draw)] = sums[c] / static_cast<double>(n);
      }
    }
  });
  std::vector<Interval> out;
  for (std::vector<double>& column : means) {
    std::sort(column.begin(), column.end());
    const double tail = (1 - confidence) / 2;
    out.push_back({percentile(column, tail), percentile(column, 1 - tail)});
  }
  return out;
}

ErrorIntervals bootstrap_errors(std::span<const double> errors, std::uint64_t seed, int draws,
                                double confidence) {
  std::vector<double> absolute, squared;
  for (const double e : errors) {
    absolute.push_back(std::abs(e));
    squared.push_back(e * e);
  }
  const std::span<const double> columns[] = {absolute, squared};
  const std::vector<Interval> means = bootstrap_means(columns, seed, draws, confidence);
  return {means[0], {std::sqrt(means[1].low), std::sqrt(means[1].high)}};
}

std::vector<double> mean_ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> sorted, ranks(values.size());
  for (const std::size_t i : order) sorted.push_back(values[i]);
  for_each_tie(sorted, [&](std::size_t first, std::size_t last) {
    const double mean = (static_cast<double>(first + last) + 1) / 2;
    for (std::size_t place = first; place < last; ++place) ranks[order[place]] = mean;
  });
  return ranks;
}

Wilcoxon wilcoxon_signed_rank(std::span<const double> a, std::span<const double> b) {
  ONPA_CHECK(a.size() == b.size(), "wilcoxon: ", a.size(), " and ", b.size(),
             " values, want as many");
  Wilcoxon out;
  if (any_nan(a) || any_nan(b)) return out;
  std::vector<double> size, ranks;
  std::vector<bool> positive;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = a[i] - b[i];
    if (d == 0) continue;
    size.push_back(std::abs(d));
    positive.push_back(d > 0);
  }
  out.n = std::ssize(size);
  if (a.empty()) return out;
  ranks = mean_ranks(size);
  double r_plus = 0, r_minus = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) (positive[i] ? r_plus : r_minus) += ranks[i];
  double ties = 0;
  std::sort(size.begin(), size.end());
  for_each_tie(size, [&](std::size_t first, std::size_t last) {
    const auto t = static_cast<double>(last - first);
    ties += t * t * t - t;
  });
  const auto n = static_cast<double>(out.n);
  const double spread = std::sqrt((n * (n + 1) * (2 * n + 1) - ties / 2) / 24);
  out.statistic = std::min(r_plus, r_minus);
  out.z = (out.statistic - n * (n + 1) / 4) / spread;
  const bool plain = ties == 0 && size.size() == a.size();
  const bool exact = a.size() <= (plain ? 50u : 13u);
  out.p = exact ? exact_p(ranks, r_plus) : normal_two_sided(out.z);  // NaN if no pair differs
  return out;
}

Correlation spearman(std::span<const double> a, std::span<const double> b) {
  ONPA_CHECK(a.size() == b.size(), "spearman: ", a.size(), " and ", b.size(),
             " values, want as many");
  Correlation out{.n = std::ssize(a), .r = kUnknown, .p = kUnknown};
  if (out.n < 2 || any_nan(a) || any_nan(b)) return out;
  const std::vector<double> x = mean_ranks(a), y = mean_ranks(b);
  const double mean = (static_cast<double>(out.n) + 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  if (xx == 0 || yy == 0) return out;
  // sqrt of each keeps a perfect correlation at exactly 1, as the sums are of half numbers.
  out.r = xx == yy ? xy / xx : std::clamp(xy / std::sqrt(xx) / std::sqrt(yy), -1.0, 1.0);
  const auto degrees = static_cast<double>(out.n - 2);
  if (degrees == 0) return out;
  if (std::abs(out.r) == 1) {
    out.p = 0;
    return out;
  }
  const double t = std::abs(out.r) * std::sqrt(degrees / ((out.r + 1) * (1 - out.r)));
  out.p = 2 * boost::math::cdf(boost::math::complement(
                  boost::math::students_t_distribution<double>(degrees), t));
  return out;
}

std::vector<BinError> errors_by_bin(std::span<const double> popularity,
                                    std::span<const double> errors, double width) {
  ONPA_CHECK(popularity.size() == errors.size() && width > 0 && width <= 100,
             "errors_by_bin: ", popularity.size(), " popularities, ", errors.size(),
             " errors and bins of ", width, ", want as many, and bins over 0 up to 100");
  const auto bins = static_cast<std::size_t>(std::ceil(100 / width));
  std::vector<BinError> out(bins);
  for (std::size_t i = 0; i < bins; ++i) {
    out[i].low = width * static_cast<double>(i);
    out[i].high = std::min(100.0, out[i].low + width);
    out[i].mae = out[i].mse = 0;
  }
  for (std::size_t i = 0; i < errors.size(); ++i) {
    const double p = popularity[i];
    ONPA_CHECK(p >= 0 && p <= 100, "errors_by_bin: popularity ", p, ", want 0 to 100");
    BinError& bin = out[std::min(bins - 1, static_cast<std::size_t>(p / width))];
    ++bin.n;
    bin.mae += std::abs(errors[i]);
    bin.mse += errors[i] * errors[i];
  }
  for (BinError& bin : out) {
    const double n = bin.n > 0 ? static_cast<double>(bin.n) : kUnknown;
    bin.mae /= n;
    bin.mse /= n;
  }
  return out;
}

BinBalanced bin_balanced(std::span<const BinError> bins) {
  BinBalanced out;
  if (!bins.empty()) out.bin_width = bins.front().high - bins.front().low;
  double mae = 0, mse = 0;
  for (const BinError& bin : bins) {
    if (bin.n == 0) continue;
    ++out.bins;
    mae += bin.mae;
    mse += bin.mse;
  }
  if (out.bins == 0) return out;
  out.mae = mae / static_cast<double>(out.bins);
  out.rmse = std::sqrt(mse / static_cast<double>(out.bins));
  return out;
}

}  // namespace onpa::apps
