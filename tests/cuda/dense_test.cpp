#include "kernels/dense.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "tests/cuda/dense_runs.h"
#include "tests/cuda/schedules.h"

namespace onpa::kernels {
namespace {

using testing::run_dense;

constexpr DenseState kStart = {.step = 5, .optimizer_step = 3, .epoch = 2};

TEST(CudaDense, StepsAgreeWithDouble) {
  for (const DenseCase& c : dense_cases()) {
    SCOPED_TRACE(::testing::Message() << c);
    expect_dense_run(c, run_dense(c, dense_model<float>(c), kStart, 3), kStart, 3);
  }
}

// 512 is the widest; its products have one or two groups of threads.
TEST(CudaDense, WidestLayersAgreeWithDouble) {
  const DenseCase c{.inputs = 512, .hidden = {512, 37, 511}, .batch = 9, .rows = 9};
  expect_dense_run(c, run_dense(c, dense_model<float>(c), kStart, 1), kStart, 1);
}

TEST(CudaDense, BitsDoNotDependOnTheSchedule) {
  for (const float clip : {0.0f, 0.1f}) {
    const DenseCase c{
        .hidden = {34, 9}, .activation = Activation::kGelu, .dropout = 0.25f, .clip_norm = clip};
    std::optional<DenseRun> first;
    testing::for_schedules([&] {
      const DenseRun run = run_dense(c, dense_model<float>(c), kStart, 2);
      if (!first) first = run;
      EXPECT_EQ(run.param, first->param);
      EXPECT_EQ(run.m, first->m);
      EXPECT_EQ(run.losses, first->losses);
    });
    expect_dense_run(c, *first, kStart, 2);
  }
}

// Starts in the middle of an epoch, and in the last rows of it.
TEST(CudaDense, ResumesAtAPosition) {
  const DenseCase c{.batch = 8};
  for (const std::uint64_t position : {8u, 16u, 20u}) {
    DenseState start = kStart;
    start.position = position;
    expect_dense_run(c, run_dense(c, dense_model<float>(c), start, 2), start, 2);
  }
}

void expect_untouched(const DenseCase& c, const DenseModel<float>& model, std::int64_t count) {
  const DenseRun run = run_dense(c, model, kStart, 1);
  EXPECT_FALSE(std::isfinite(run.losses[0]));
  EXPECT_EQ(run.param, model.param);
  EXPECT_EQ(run.m, model.m);
  EXPECT_EQ(run.v, model.v);
  EXPECT_EQ(run.state.step, kStart.step + 1);
  EXPECT_EQ(run.state.optimizer_step, kStart.optimizer_step);
  EXPECT_EQ(run.state.position, static_cast<std::uint64_t>(count));
  EXPECT_EQ(run.state.not_finite, 1u);
  EXPECT_EQ(run.state.loss_sum, 0.0);
  EXPECT_EQ(run.state.samples, 0u);
}

TEST(CudaDense, ChangesNothingThatIsNotFinite) {
  for (const float clip : {0.0f, 0.5f}) {
    for (const LossKind loss : {LossKind::kMse, LossKind::kL1, LossKind::kHuber}) {
      const DenseCase c{.loss = loss, .clip_norm = clip, .shuffle = false};
      for (const float bad : {NAN, INFINITY}) {
        DenseModel<float> in_x = dense_model<float>(c), in_y = in_x, later = in_x;
        in_x.x[0] = bad;
        expect_untouched(c, in_x, 13);
        in_y.y[12] = bad;
        expect_untouched(c, in_y, 13);
        // The 14th row is not in the first batch.
        later.y[13] = bad;
        expect_dense_run(c, run_dense(c, later, kStart, 1), kStart, 1);
      }
    }
  }
}

// The loss is finite, the gradient of the first layer is 1e25 * 1e25.
TEST(CudaDense, SeesInfiniteGradientsBelowAFiniteLoss) {
  for (const float clip : {0.0f, 0.5f}) {
    const DenseCase c{.inputs = 2,
                      .hidden = {3, 3},
                      .activation = Activation::kGelu,
                      .loss = LossKind::kHuber,
                      .clip_norm = clip};
    DenseModel<float> model = dense_model<float>(c);
    std::fill(model.param.begin(), model.param.end(), 0.0f);
    for (const std::size_t i : {1u, 2u}) {
      const DenseLayer& layer = model.layers[i];
      std::fill_n(model.param.begin() + layer.weight, layer.inputs * layer.outputs, 1e25f);
    }
    expect_untouched(c, model, 13);
  }
}

// Rows of finite slopes whose sum over 1e30 times an error of 1e12 overflows.
TEST(CudaDense, SeesGradientsThatOverflowInTheSumOverRows) {
  const DenseCase c{.inputs = 2, .hidden = {3}, .clip_norm = 0.5f};
  DenseModel<float> model = dense_model<float>(c);
  for (std::size_t i = 0; i < model.x.size(); i += 2) model.x[i] = 1e30f;
  for (const std::int64_t i : {0, 2, 4}) {
    model.param[static_cast<std::size_t>(model.layers[0].weight + i)] = 0;
  }
  std::fill(model.y.begin(), model.y.end(), 1e12f);
  expect_untouched(c, model, 13);
}

// A step after one that was left out: its count goes on from the last that was applied.
TEST(CudaDense, GoesOnAfterANonFiniteStep) {
  const DenseCase c{.shuffle = false};
  DenseModel<float> model = dense_model<float>(c);
  model.x[3] = NAN;
  const DenseRun both = run_dense(c, model, kStart, 2);
  EXPECT_EQ(both.state.not_finite, 1u);
  EXPECT_EQ(both.state.optimizer_step, kStart.optimizer_step + 1);
  EXPECT_EQ(both.state.samples, 8u);
  EXPECT_EQ(both.state.epoch, kStart.epoch + 1);
  for (const float v : both.param) EXPECT_TRUE(std::isfinite(v));
  EXPECT_NE(both.param, model.param);
}

TEST(CudaDense, RefusesWhatDoesNotFit) {
  const auto refused = [](const DenseCase& c, auto&& change) {
    const DenseModel<float> model = dense_model<float>(c);
    DenseStep a = dense_arguments(c, model.layers);
    change(a);
    EXPECT_THROW(dense_step_workspace_bytes(Cuda{}, a), Error);
    EXPECT_THROW(dense_step(Cuda{}, a), Error);
    EXPECT_THROW(dense_pack(Cuda{}, a), Error);
  };
  const auto as_it_is = [](DenseStep&) {};
  refused({.hidden = {513}}, as_it_is);
  refused({.inputs = 513}, as_it_is);
  refused({}, [](DenseStep& a) { a.layers = 0; });
  refused({}, [](DenseStep& a) { a.layers = 9; });
  refused({}, [](DenseStep& a) { a.layers = 1; });  // 33 outputs
  refused({}, [](DenseStep& a) { a.rows = 0; });
  refused({}, [](DenseStep& a) { a.batch = 0; });
  refused({.loss = LossKind::kBceWithLogits}, as_it_is);
}

}  // namespace
}  // namespace onpa::kernels
