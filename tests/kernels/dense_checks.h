// What tests of dense training steps expect on every device.
#pragma once

#include <gtest/gtest.h>

#include "tests/kernels/dense_cases.h"

namespace onpa::kernels {

struct DenseRun {
  std::vector<float> losses, param, m, v;
  DenseState state;
};

/// Learning rate of the i-th step of a test.
inline float dense_rate(int i) {
  return 0.02f * static_cast<float>(i + 1);
}

/// `steps` steps from `start` are those of the reference.
inline void expect_dense_run(const DenseCase& c, const DenseRun& got, const DenseState& start,
                             int steps) {
  DenseModel<double> want = dense_model<double>(c);
  DenseState state = start;
  for (int i = 0; i < steps; ++i) {
    const double loss = dense_reference(c, want, state, static_cast<double>(dense_rate(i)));
    EXPECT_NEAR(got.losses[static_cast<std::size_t>(i)], loss, 2e-5 * (1 + loss)) << "step " << i;
  }
  EXPECT_EQ(got.state.step, state.step);
  EXPECT_EQ(got.state.optimizer_step, state.optimizer_step);
  EXPECT_EQ(got.state.epoch, state.epoch);
  EXPECT_EQ(got.state.position, state.position);
  EXPECT_EQ(got.state.samples, state.samples);
  EXPECT_EQ(got.state.not_finite, 0u);
  EXPECT_NEAR(got.state.loss_sum, state.loss_sum, 2e-5 * (1 + state.loss_sum));
  // Gradients are sums of up to a few hundred rounded products, each 6e-8 off; an update is a
  // gradient over at least eps, times the rate: 6 times the gradient's error.
  double largest = 0;
  for (const double m : want.m) largest = std::max(largest, std::abs(m));
  for (std::size_t i = 0; i < want.param.size(); ++i) {
    ASSERT_NEAR(got.m[i], want.m[i], 4e-6 * largest) << "m " << i;
    ASSERT_NEAR(got.v[i], want.v[i], 4e-6 * largest * (largest + std::sqrt(want.v[i])))
        << "v " << i;
    ASSERT_NEAR(got.param[i], want.param[i], 2e-5) << "param " << i;
  }
}

}  // namespace onpa::kernels
