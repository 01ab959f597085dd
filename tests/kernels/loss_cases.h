// Cases and reference of the loss tests on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/loss.h"
#include "kernels/philox.h"

namespace onpa::kernels {

inline constexpr LossKind kLossKinds[] = {LossKind::kMse, LossKind::kL1, LossKind::kHuber,
                                          LossKind::kBceWithLogits, LossKind::kCrossEntropy};
constexpr float kLossDelta = 0.75f;

struct LossCase {
  std::int64_t rows, cols;
};
// One cell, primes, rows over several ranges or blocks, and many of them.
inline constexpr LossCase kLossCases[] = {{1, 1},  {1, 3},    {7, 1},    {5, 7},
                                          {3, 17}, {2, 8209}, {67, 527}, {2100, 2}};

/// What a mean loss is the mean of: cells, or rows.
inline double loss_count(const LossCase& c, LossKind kind) {
  return static_cast<double>(kind == LossKind::kCrossEntropy ? c.rows : c.rows * c.cols);
}

template <class T>
struct LossData {
  std::vector<T> x, target;
};

/// Targets are probabilities of the classes, which suits every loss. Floats hold the values.
template <class T>
LossData<T> loss_data(const LossCase& c, std::uint64_t seed) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  LossData<T> out;
  for (std::int64_t r = 0; r < c.rows; ++r) {
    std::vector<double> row;
    double sum = 0;
    for (std::int64_t i = 0; i < c.cols; ++i) sum += row.emplace_back(rng.uniform() + 0.01);
    for (const double v : row) out.target.push_back(static_cast<T>(static_cast<float>(v / sum)));
    for (std::int64_t i = 0; i < c.cols; ++i) {
      out.x.push_back(static_cast<T>(static_cast<float>(2 * rng.normal())));
    }
  }
  return out;
}

/// Mean loss and its gradient, written down in the plainest way, in long double.
inline double loss_reference(const LossData<double>& data, const LossCase& c, LossKind kind,
                             std::vector<double>& slope) {
  long double sum = 0, total = 0, targets = 0;
  const auto cols = static_cast<std::size_t>(c.cols);
  slope.resize(data.x.size());
  const bool by_row = kind == LossKind::kCrossEntropy;
  const double count = loss_count(c, kind);
  for (std::size_t i = 0; i < data.x.size(); ++i) {
    const long double x = data.x[i], t = data.target[i], d = x - t;
    long double loss = 0, ds = 0;
    if (kind == LossKind::kMse) loss = d * d, ds = 2 * d;
    if (kind == LossKind::kL1) loss = std::abs(d), ds = d > 0 ? 1 : d < 0 ? -1 : 0;
    if (kind == LossKind::kHuber) {
      const long double delta = kLossDelta;
      const bool inside = std::abs(d) <= delta;
      loss = inside ? d * d / 2 : delta * (std::abs(d) - delta / 2);
      ds = inside ? d : std::copysign(delta, d);
    }
    if (kind == LossKind::kBceWithLogits) {
      const long double p = 1 / (1 + std::exp(-x));
      loss = -t * std::log(p) - (1 - t) * std::log1p(-p), ds = p - t;
    }
    if (by_row) {
      if (i % cols == 0) total = targets = 0;
      for (std::size_t j = i; i % cols == 0 && j < i + cols; ++j) {
        total += std::exp(static_cast<long double>(data.x[j]));
        targets += data.target[j];
      }
      loss = t * (std::log(total) - x), ds = std::exp(x) / total * targets - t;
    }
    sum += loss;
    slope[i] = static_cast<double>(ds) / count;
  }
  return static_cast<double>(sum / count);
}

}  // namespace onpa::kernels
