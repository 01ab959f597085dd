#include "kernels/dense.h"

#include <gtest/gtest.h>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/dense_checks.h"

namespace onpa::kernels {
namespace {

DenseRun run(const DenseCase& c, const DenseState& start, int steps) {
  DenseModel<float> model = dense_model<float>(c);
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
