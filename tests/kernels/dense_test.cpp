#include "kernels/dense.h"

#include <gtest/gtest.h>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/dense_checks.h"

namespace onpa::kernels {
namespace {

DenseRun run(const DenseCase& c, DenseModel<float> model, const DenseState& start, int steps) {
  DenseRun out;
  out.state = start;
  std::vector<std::byte> workspace;
  for (int i = 0; i < steps; ++i) {
    DenseStep a = dense_arguments(c, model.layers);
    DenseState next;
    const float lr = dense_rate(i);
    float loss = 0;
    a.x = model.x.data(), a.y = model.y.data();
    a.param = model.param.data(), a.m = model.m.data(), a.v = model.v.data();
    a.lr = &lr;
    a.loss = &loss;
    a.state = &out.state;
    a.next_state = &next;
    if (i == 0) workspace.resize(dense_step_workspace_bytes(Cpu{}, a));
    a.workspace = workspace.data();
    if (i == 0) dense_pack(Cpu{}, a);
    dense_step(Cpu{}, a);
    out.losses.push_back(loss);
    out.state = next;
  }
  out.param = model.param, out.m = model.m, out.v = model.v;
  return out;
}

DenseRun run(const DenseCase& c, const DenseState& start, int steps) {
  return run(c, dense_model<float>(c), start, steps);
}

TEST(Dense, StepsAgreeWithDouble) {
  const DenseState start = {.step = 5, .optimizer_step = 3, .epoch = 2, .position = 0};
  for (const DenseCase& c : dense_cases()) {
    SCOPED_TRACE(::testing::Message() << c);
    expect_dense_run(c, run(c, start, 3), start, 3);
  }
}

// Groups of rows that threads share: with a part of a chunk at the end, and larger ones for a large
// batch.
TEST(Dense, LargeBatchesAgreeWithDouble) {
  const DenseState start = {.step = 5, .optimizer_step = 3, .epoch = 2, .position = 0};
  for (const DenseCase& c : {DenseCase{.inputs = 20, .hidden = {40, 17}, .batch = 301, .rows = 700},
                             DenseCase{.inputs = 16,
                             .hidden = {7},
                             .batch = 2100,
                             .rows = 2500,
                             .activation = Activation::kGelu,
                             .dropout = 0.25f},
                             DenseCase{.inputs = 3, .hidden = {}, .batch = 200, .rows = 200}}) {
    SCOPED_TRACE(::testing::Message() << c);
    expect_dense_run(c, run(c, start, 3), start, 3);
  }
}

TEST(Dense, BitsDoNotDependOnTheThreads) {
  const DenseCase c{.inputs = 20,
                    .hidden = {40, 17},
                    .batch = 701,
                    .rows = 1500,
                    .dropout = 0.1f,
                    .clip_norm = 0.1f};
  set_thread_count(1);
  const DenseRun want = run(c, {}, 4);
  for (const int threads : {2, 3, 7}) {
    set_thread_count(threads);
    const DenseRun got = run(c, {}, 4);
    EXPECT_EQ(got.losses, want.losses) << threads;
    EXPECT_EQ(got.param, want.param) << threads;
    EXPECT_EQ(got.m, want.m) << threads;
    EXPECT_EQ(got.v, want.v) << threads;
  }
}

// A step from `model` is left out, and counted so.
void expect_untouched(const DenseCase& c, const DenseModel<float>& model, std::uint64_t count) {
  const DenseRun got = run(c, model, {}, 1);
  EXPECT_FALSE(std::isfinite(got.losses.front()));
  EXPECT_EQ(got.param, model.param);
  EXPECT_EQ(got.m, model.m);
  EXPECT_EQ(got.v, model.v);
  EXPECT_EQ(got.state.step, 1u);
  EXPECT_EQ(got.state.optimizer_step, 1u);
  EXPECT_EQ(got.state.position, count);
  EXPECT_EQ(got.state.not_finite, 1u);
  EXPECT_EQ(got.state.loss_sum, 0.0);
  EXPECT_EQ(got.state.samples, 0u);
}

TEST(Dense, ChangesNothingThatIsNotFinite) {
  for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGelu}) {
    for (const LossKind loss : {LossKind::kMse, LossKind::kL1, LossKind::kHuber}) {
      const DenseCase c{.activation = activation, .loss = loss, .shuffle = false};
      for (const float bad : {NAN, INFINITY}) {
        SCOPED_TRACE(::testing::Message() << c << ", " << bad);
        DenseModel<float> in_x = dense_model<float>(c), in_y = in_x, later = in_x;
        in_x.x[0] = bad;
        expect_untouched(c, in_x, 13);
        in_y.y[12] = bad;
        expect_untouched(c, in_y, 13);
        // The 14th row is not in the first batch.
        later.y[13] = bad;
        expect_dense_run(c, run(c, later, {}, 1), {}, 1);
      }
    }
  }
}

// The loss is finite, the gradient of the first layer is 1e25 * 1e25.
TEST(Dense, SeesInfiniteGradientsBelowAFiniteLoss) {
  const DenseCase c{
      .inputs = 2, .hidden = {3, 3}, .activation = Activation::kGelu, .loss = LossKind::kHuber};
  DenseModel<float> model = dense_model<float>(c);
  std::fill(model.param.begin(), model.param.end(), 0.0f);
  for (const std::size_t i : {1u, 2u}) {
    const DenseLayer& layer = model.layers[i];
    std::fill_n(model.param.begin() + layer.weight, layer.inputs * layer.outputs, 1e25f);
  }
  expect_untouched(c, model, 13);
}

// Nothing of a step that was left out stays in the memory of its groups.
TEST(Dense, GoesOnAfterANonFiniteStep) {
  const DenseCase c{.batch = 150, .rows = 300, .shuffle = false};
  DenseModel<float> model = dense_model<float>(c);
  model.x[3] = NAN;
  const DenseRun got = run(c, model, {}, 2);
  DenseState second = {.step = 1, .optimizer_step = 1, .epoch = 0, .position = 150};
  DenseModel<double> want = dense_model<double>(c);
  const double loss = dense_reference(c, want, second, static_cast<double>(dense_rate(1)));
  EXPECT_NEAR(got.losses[1], loss, 2e-5 * (1 + loss));
  for (std::size_t i = 0; i < want.param.size(); ++i) {
    ASSERT_NEAR(got.param[i], want.param[i], 2e-5) << i;
  }
  EXPECT_EQ(got.state.not_finite, 1u);
  EXPECT_EQ(got.state.optimizer_step, 2u);
  EXPECT_EQ(got.state.samples, 150u);
  EXPECT_EQ(got.state.epoch, 1u);
}

TEST(Dense, ReferenceLearns) {
  const DenseCase c{.batch = 21};
  DenseModel<double> model = dense_model<double>(c);
  DenseState state;
  const double first = dense_reference(c, model, state, 0.02);
  double last = first;
  for (int i = 0; i < 100; ++i) last = dense_reference(c, model, state, 0.02);
  EXPECT_LT(last, 0.3 * first);
}

}  // namespace
}  // namespace onpa::kernels
