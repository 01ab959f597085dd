#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"

namespace onpa::kernels {
namespace {

constexpr LossKind kKinds[] = {LossKind::kMse, LossKind::kL1, LossKind::kHuber,
                               LossKind::kBceWithLogits, LossKind::kCrossEntropy};
constexpr float kDelta = 0.75f;

struct Case {
  std::int64_t rows, cols;
};
constexpr Case kCases[] = {{1, 1}, {1, 3}, {7, 1}, {5, 7}, {3, 17}, {2, 8209}, {67, 527}};

template <class T>
struct Data {
  std::vector<T> x, target;
};

// Targets are probabilities of the classes, which suits every loss. Floats hold the values.
template <class T>
Data<T> make_data(const Case& c, std::uint64_t seed) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  Data<T> out;
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

template <class T>
T forward(const Data<T>& data, const Case& c, LossKind kind) {
  T loss = -1;
  loss_fwd<T>(Cpu{}, {.x = data.x.data(),
                      .target = data.target.data(),
                      .loss = &loss,
                      .rows = c.rows,
                      .cols = c.cols,
                      .kind = kind,
                      .delta = kDelta});
  return loss;
}

template <class T>
std::vector<T> backward(const Data<T>& data, const Case& c, LossKind kind, T dloss,
                        GradMode mode = GradMode::kAssign, T start = NAN) {
  std::vector<T> dx(data.x.size(), start);
  loss_bwd<T>(Cpu{}, {.dloss = &dloss,
                      .x = data.x.data(),
                      .target = data.target.data(),
                      .dx = dx.data(),
                      .mode = mode,
                      .rows = c.rows,
                      .cols = c.cols,
                      .kind = kind,
                      .delta = kDelta});
  return dx;
}

// Mean loss and its gradient, written down once more in the plainest way, in long double.
long double naive(const Data<double>& data, const Case& c, LossKind kind,
                  std::vector<double>& slope) {
  long double sum = 0, total = 0, targets = 0;
  const auto cols = static_cast<std::size_t>(c.cols);
  slope.resize(data.x.size());
  const bool by_row = kind == LossKind::kCrossEntropy;
  const double count = static_cast<double>(by_row ? c.rows : c.rows * c.cols);
  for (std::size_t i = 0; i < data.x.size(); ++i) {
    const long double x = data.x[i], t = data.target[i], d = x - t;
    long double loss = 0, ds = 0;
    if (kind == LossKind::kMse) loss = d * d, ds = 2 * d;
    if (kind == LossKind::kL1) loss = std::abs(d), ds = d > 0 ? 1 : d < 0 ? -1 : 0;
    if (kind == LossKind::kHuber) {
      const bool inside = std::abs(d) <= kDelta;
      loss = inside ? d * d / 2 : kDelta * (std::abs(d) - static_cast<long double>(kDelta) / 2);
      ds = inside ? d : std::copysign(static_cast<long double>(kDelta), d);
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
  return sum / count;
}

template <class T>
void check_against_naive(double bound) {
  for (const LossKind kind : kKinds) {
    for (const Case& c : kCases) {
      const Data<T> data = make_data<T>(c, 11);
      const Data<double> same{{data.x.begin(), data.x.end()},
                              {data.target.begin(), data.target.end()}};
      std::vector<double> slope;
      const auto want = static_cast<double>(naive(same, c, kind, slope));
      const double scale = std::abs(want) + 1;
      EXPECT_NEAR(forward(data, c, kind), want, bound * scale) << int(kind) << ' ' << c.cols;
      const std::vector<T> got = backward<T>(data, c, kind, T{3});
      const std::vector<T> added = backward<T>(data, c, kind, T{3}, GradMode::kAccumulate, T{1});
      const bool by_row = kind == LossKind::kCrossEntropy;
      const double count = static_cast<double>(by_row ? c.rows : c.rows * c.cols);
      for (std::size_t i = 0; i < got.size(); ++i) {
        // The slope of one cell is up to 20 before it is divided by the count.
        ASSERT_NEAR(got[i], 3 * slope[i], bound * 60 / count) << int(kind) << ' ' << i;
        ASSERT_NEAR(added[i], 1 + 3 * slope[i], bound * (2 + 60 / count)) << int(kind) << ' ' << i;
      }
    }
  }
}

// A few roundings of 6e-8 and exp and log good to 4 units in the last place.
TEST(LossKernels, FloatAgreesWithTheFormulas) {
  check_against_naive<float>(5e-7);
}
TEST(LossKernels, DoubleAgreesWithTheFormulas) {
  check_against_naive<double>(1e-14);
}

TEST(LossKernels, LargeLogitsDoNotOverflow) {
  const Case c{1, 4};
  const Data<float> data{{1.5e38f, -1.5e38f, 200.0f, -200.0f}, {1, 0, 1, 0}};
  EXPECT_EQ(forward(data, c, LossKind::kBceWithLogits), 0.0f);
  const std::vector<float> dx = backward(data, c, LossKind::kBceWithLogits, 1.0f);
  for (const float v : dx) EXPECT_NEAR(v, 0, 1e-30);
  EXPECT_FLOAT_EQ(forward(data, c, LossKind::kCrossEntropy), 1.5e38f);
  for (const float v : backward(data, c, LossKind::kCrossEntropy, 1.0f)) {
    EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(LossKernels, NanAndInfinityShow) {
  for (const LossKind kind : kKinds) {
    for (const Case& c : {Case{3, 5}, Case{2, 8209}}) {
      for (const std::size_t at : {std::size_t{0}, static_cast<std::size_t>(c.rows * c.cols - 1)}) {
        Data<float> data = make_data<float>(c, 12);
        data.x[at] = NAN;
        EXPECT_TRUE(std::isnan(forward(data, c, kind))) << int(kind) << " at " << at;
        EXPECT_TRUE(std::isnan(backward(data, c, kind, 1.0f)[at])) << int(kind) << " at " << at;
        data.x[at] = INFINITY;
        EXPECT_FALSE(std::isfinite(forward(data, c, kind))) << int(kind) << " at " << at;
      }
    }
  }
}

TEST(LossKernels, EmptyHasNoMean) {
  const Data<float> data;
  for (const LossKind kind : kKinds) {
    EXPECT_TRUE(std::isnan(forward(data, {0, 3}, kind)));
    EXPECT_TRUE(backward(data, {0, 3}, kind, 1.0f).empty());
  }
}

TEST(LossKernels, ThreadsDoNotChangeABit) {
  const int before = thread_count();
  const Case c{331, 127};
  const Data<float> data = make_data<float>(c, 13);
  for (const LossKind kind : kKinds) {
    set_thread_count(1);
    const float loss = forward(data, c, kind);
    const std::vector<float> dx = backward(data, c, kind, 1.0f);
    set_thread_count(3);
    EXPECT_EQ(forward(data, c, kind), loss) << int(kind);
    EXPECT_EQ(backward(data, c, kind, 1.0f), dx) << int(kind);
  }
  set_thread_count(before);
}

}  // namespace
}  // namespace onpa::kernels
