#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/loss_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::RoundedToBf16;

template <class T>
float forward(const LossData<double>& data, const LossCase& c, LossKind kind, int offset = 0) {
  const DeviceArray<T> x(cast_to<T>(data.x), offset);
  const DeviceArray<float> target(cast_to<float>(data.target), offset), loss(1);
  LossFwd<T> args{.x = x.data(),
                  .target = target.data(),
                  .loss = loss.data(),
                  .rows = c.rows,
                  .cols = c.cols,
                  .kind = kind,
                  .delta = kLossDelta};
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(loss_fwd_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  loss_fwd(Cuda{}, args);
  return loss.to_host()[0];
}

// The gradient times 3, onto 1.
template <class T>
std::vector<T> backward(const LossData<double>& data, const LossCase& c, LossKind kind,
                        GradMode mode, int offset = 0) {
  const DeviceArray<T> x(cast_to<T>(data.x), offset),
      dx(std::vector<T>(data.x.size(), static_cast<T>(1.0f)), offset);
  const DeviceArray<float> target(cast_to<float>(data.target), offset), dloss(std::vector{3.0f});
  loss_bwd<T>(Cuda{}, {.dloss = dloss.data(),
                       .x = x.data(),
                       .target = target.data(),
                       .dx = dx.data(),
                       .mode = mode,
                       .rows = c.rows,
                       .cols = c.cols,
                       .kind = kind,
                       .delta = kLossDelta});
  return dx.to_host();
}

template <class T>
void check(const LossCase& c, LossKind kind, int offset) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.cols << ", kind " << int(kind) << ", "
                                    << name_of(DTypeOf<T>::value) << ", offset " << offset);
  LossData<double> data = loss_data<double>(c, 11);
  data.x = testing::seen_as<T>(data.x);
  std::vector<double> slope;
  const double want = loss_reference(data, c, kind, slope);
  // A few roundings of 6e-8, and exp and log good to 2 units in the last place; the slope of one
  // cell is up to 20 before it is divided by the count.
  constexpr double kBound = 5e-7;
  std::optional<float> first;
  testing::for_schedules([&] {
    const float got = forward<T>(data, c, kind, offset);
    if (!first) first = got;
    EXPECT_EQ(got, *first) << "bits depend on the schedule";
  });
  EXPECT_NEAR(*first, want, kBound * (std::abs(want) + 1));

  const double size = 60 / loss_count(c, kind);
  for (const GradMode mode : {GradMode::kAssign, GradMode::kAccumulate}) {
    const double start = mode == GradMode::kAssign ? 0 : 1;
    std::vector<double> dx, naive;
    for (const double v : slope) {
      const RoundedToBf16 r;
      dx.push_back(start + 3 * v);
      naive.push_back(r(start + r(3 * r(v))));
    }
    const std::vector<T> got = backward<T>(data, c, kind, mode, offset);
    if constexpr (std::is_same_v<T, float>) {
      testing::expect_near(got, dx, naive, kBound, 3, size + start);
    } else {
      testing::expect_near(got, dx, naive, kBound, 3);
    }
  }
}

TEST(CudaLoss, AgreesWithTheFormulas) {
  for (const LossKind kind : kLossKinds) {
    for (const LossCase& c : kLossCases) {
      check<float>(c, kind, 0);
      check<bf16>(c, kind, 1);
    }
  }
}

TEST(CudaLoss, LargeLogitsDoNotOverflow) {
  const LossCase c{1, 4};
  const LossData<double> data{{1.5e38f, -1.5e38f, 200, -200}, {1, 0, 1, 0}};
  EXPECT_EQ(forward<float>(data, c, LossKind::kBceWithLogits), 0.0f);
  EXPECT_FLOAT_EQ(forward<float>(data, c, LossKind::kCrossEntropy), 1.5e38f);
  for (const LossKind kind : {LossKind::kBceWithLogits, LossKind::kCrossEntropy}) {
    for (const float v : backward<float>(data, c, kind, GradMode::kAssign)) {
      EXPECT_TRUE(std::isfinite(v));
    }
  }
}

TEST(CudaLoss, NanAndInfinityShow) {
  for (const LossKind kind : kLossKinds) {
    for (const LossCase& c : {LossCase{3, 5}, LossCase{9, 257}}) {
      for (const std::size_t at : {std::size_t{0}, static_cast<std::size_t>(c.rows * c.cols - 1)}) {
        LossData<double> data = loss_data<double>(c, 12);
        data.x[at] = NAN;
        EXPECT_TRUE(std::isnan(forward<float>(data, c, kind))) << int(kind) << " at " << at;
        EXPECT_TRUE(std::isnan(backward<float>(data, c, kind, GradMode::kAssign)[at]))
            << int(kind) << " at " << at;
        data.x[at] = INFINITY;
        EXPECT_FALSE(std::isfinite(forward<float>(data, c, kind))) << int(kind) << " at " << at;
      }
    }
  }
}

TEST(CudaLoss, EmptyHasNoMean) {
  for (const LossKind kind : kLossKinds) {
    EXPECT_TRUE(std::isnan(forward<float>({}, {0, 3}, kind)));
    EXPECT_TRUE(backward<float>({}, {0, 3}, kind, GradMode::kAssign).empty());
  }
}

}  // namespace
}  // namespace onpa::kernels
