#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/loss_cases.h"

namespace onpa::kernels {
namespace {

template <class T>
T forward(const LossData<T>& data, const LossCase& c, LossKind kind) {
  T loss = -1;
  loss_fwd<T>(Cpu{}, {.x = data.x.data(),
                      .target = data.target.data(),
                      .loss = &loss,
                      .rows = c.rows,
                      .cols = c.cols,
                      .kind = kind,
                      .delta = kLossDelta});
  return loss;
}

template <class T>
std::vector<T> backward(const LossData<T>& data, const LossCase& c, LossKind kind, T dloss,
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
                      .delta = kLossDelta});
  return dx;
}

template <class T>
void check_against_reference(double bound) {
  for (const LossKind kind : kLossKinds) {
    for (const LossCase& c : kLossCases) {
      const LossData<T> data = loss_data<T>(c, 11);
      const LossData<double> same{{data.x.begin(), data.x.end()},
                                  {data.target.begin(), data.target.end()}};
      std::vector<double> slope;
      const double want = loss_reference(same, c, kind, slope);
      const double scale = std::abs(want) + 1;
      EXPECT_NEAR(forward(data, c, kind), want, bound * scale) << int(kind) << ' ' << c.cols;
      const std::vector<T> got = backward<T>(data, c, kind, T{3});
      const std::vector<T> added = backward<T>(data, c, kind, T{3}, GradMode::kAccumulate, T{1});
      const double count = loss_count(c, kind);
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
  check_against_reference<float>(5e-7);
}
TEST(LossKernels, DoubleAgreesWithTheFormulas) {
  check_against_reference<double>(1e-14);
}

TEST(LossKernels, LargeLogitsDoNotOverflow) {
  const LossCase c{1, 4};
  const LossData<float> data{{1.5e38f, -1.5e38f, 200.0f, -200.0f}, {1, 0, 1, 0}};
  EXPECT_EQ(forward(data, c, LossKind::kBceWithLogits), 0.0f);
  const std::vector<float> dx = backward(data, c, LossKind::kBceWithLogits, 1.0f);
  for (const float v : dx) EXPECT_NEAR(v, 0, 1e-30);
  EXPECT_FLOAT_EQ(forward(data, c, LossKind::kCrossEntropy), 1.5e38f);
  for (const float v : backward(data, c, LossKind::kCrossEntropy, 1.0f)) {
    EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(LossKernels, NanAndInfinityShow) {
  for (const LossKind kind : kLossKinds) {
    for (const LossCase& c : {LossCase{3, 5}, LossCase{2, 8209}}) {
      for (const std::size_t at : {std::size_t{0}, static_cast<std::size_t>(c.rows * c.cols - 1)}) {
        LossData<float> data = loss_data<float>(c, 12);
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
  const LossData<float> data;
  for (const LossKind kind : kLossKinds) {
    EXPECT_TRUE(std::isnan(forward(data, {0, 3}, kind)));
    EXPECT_TRUE(backward(data, {0, 3}, kind, 1.0f).empty());
  }
}

TEST(LossKernels, ThreadsDoNotChangeABit) {
  const int before = thread_count();
  const LossCase c{331, 127};
  const LossData<float> data = loss_data<float>(c, 13);
  for (const LossKind kind : kLossKinds) {
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
