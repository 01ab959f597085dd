// What the ops of a whole training step of PaSST state as their work, beside formulas that know the
// model and nothing of the ops.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "nn/optim.h"
#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/flat_params.h"
#include "tensor/memory_plan.h"
#include "tensor/op_scope.h"
#include "tensor/ops/loss.h"
#include "tests/support/gradcheck.h"
#include "tests/support/scope_log.h"

namespace onpa::nn {
namespace {

constexpr std::int64_t kBatch = 3, kMels = 32, kFrames = 48;
const Patchout kPatchout{.time = 2, .freq = 1, .unstructured = 3};

void train_step(Passt& model, FlatParams& params, Optimizer& optimizer) {
  const Tensor mel = testing::random_normal({kBatch, kMels, kFrames}, 3, 1, DType::kF32);
  const Tensor target = testing::random_normal({kBatch, 1}, 4, 1, DType::kF32);
  params.clear_grad();
  backward(ops::loss(model.forward(mel, kPatchout).logits, target, kernels::LossKind::kMse));
  params.finish_grad();
  optimizer.step(1e-3f);
}

// Sizes of the step as doubles: B batch, P cells of a patch, K kept patches, C width, H heads,
// M hidden width.
struct Sizes {
  double B = kBatch, P = 8 * 8, K = (9 - 2) * (5 - 1) - 3, C = 64, H = 4, M = 256;
  double N() const { return K + 2; }
};

using Work = std::map<std::string, testing::ScopeLog::Total>;

// Floats are counted, and made bytes at the end.
void add(Work& work, const std::string& name, double flops, double floats) {
  auto& total = work[name];
  ++total.calls;
  total.flops += flops;
  total.bytes += 4 * floats;
}

void add_norm(Work& work, double rows, double cols, bool onto_gradient) {
  const double n = rows * cols;
  add(work, "layer_norm_fwd", 8 * n, 2 * n + 2 * cols + 2 * rows);
  add(work, "layer_norm_bwd", 13 * n,
      2 * n + cols + 2 * rows + (onto_gradient ? 2 : 1) * n + 2 * cols);
}

void add_linear(Work& work, double rows, double in, double out, bool gelu, bool residual) {
  const double n = rows * out, product = 2 * rows * in * out, weight = in * out;
  add(work, "linear_fwd", product + n * (1 + (gelu ? 5 : 0) + (residual ? 1 : 0)),
      rows * in + weight + out + n * (1 + (gelu ? 1 : 0) + (residual ? 1 : 0)));
  if (gelu) add(work, "linear_bwd_activation", 11 * n, 3 * n);
  add(work, "linear_bwd_input", product, n + weight + rows * in);
  add(work, "linear_bwd_weight", product, n + rows * in + weight);
  add(work, "linear_bwd_bias", n, n + out);
}

// A block of which the first `asking` tokens go on.
void add_block(Work& work, const Sizes& s, double asking) {
  const double tokens = s.B * s.N(), rows = s.B * asking;
  // What comes back through the residual connections is there before the norms add to it.
  add_norm(work, tokens, s.C, true);
  add_linear(work, tokens, s.C, 3 * s.C, false, false);
  const double pairs = s.B * asking * s.N() * s.C, lse = s.B * s.H * asking;
  add(work, "attention_fwd", 4 * pairs, 3 * tokens * s.C + rows * s.C + lse);
  add(work, "attention_bwd", 10 * pairs, 6 * tokens * s.C + 2 * rows * s.C + lse);
  add_linear(work, rows, s.C, s.C, false, true);
  add_norm(work, rows, s.C, true);
  add_linear(work, rows, s.C, s.M, true, false);
  add_linear(work, rows, s.M, s.C, false, true);
}

Work expected_work(double parameters) {
  const Sizes s;
  Work work;
  const double grid_f = 5, table_t = 19;
  const double patch_params = s.C * s.P + s.C * (1 + 2 + 2 + grid_f + table_t);
  const double read = std::min(s.B * kMels * kFrames, s.B * s.K * s.P) + s.K;
  const double product = 2 * s.B * s.K * s.C * s.P, sums = 3 * s.B * s.K * s.C;
  add(work, "draw_patchout", 0, s.K);
  add(work, "patch_tokens_fwd", product + sums + 2 * s.B * s.C,
      read + patch_params + s.B * s.N() * s.C);
  add(work, "patch_tokens_bwd", product + sums + 4 * s.B * s.C,
      read + patch_params + s.B * s.N() * s.C);
  add_block(work, s, s.N());
  add_block(work, s, 2);
  const double leading = 2 * s.B * s.C;
  add(work, "leading_rows_fwd", 0, 2 * leading);
  add(work, "leading_rows_bwd", 0, leading + s.B * s.N() * s.C);
  add_norm(work, 2 * s.B, s.C, false);
  add(work, "leading_mean_fwd", leading, leading + s.B * s.C);
  add(work, "leading_mean_bwd", leading, leading + s.B * s.C);
  add_norm(work, s.B, s.C, false);
  add_linear(work, s.B, s.C, 1, false, false);
  add(work, "loss_fwd", 3 * s.B, 2 * s.B + 1);
  add(work, "loss_bwd", 3 * s.B, 1 + 3 * s.B);
  add(work, "gradient_norm", 2 * parameters, parameters);
  add(work, "adamw", 15 * parameters, 7 * parameters);
  return work;
}

TEST(OpWork, WholeStepOfPasstIsWhatFormulasSay) {
  Passt model(PasstConfig::preset("passt-xs"));
  model.initialize(1);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  testing::ScopeLog log;
  train_step(model, params, optimizer);

  EXPECT_TRUE(log.balanced());
  const Work want = expected_work(static_cast<double>(params.numel()));
  for (const auto& [name, total] : want) {
    EXPECT_EQ(log.ops[name].calls, total.calls) << name;
    EXPECT_EQ(log.ops[name].flops, total.flops) << name;
    EXPECT_EQ(log.ops[name].bytes, total.bytes) << name;
  }
  for (const auto& [name, total] : log.ops) EXPECT_TRUE(want.contains(name)) << name;
  EXPECT_EQ(log.phases["block"], 2);
  EXPECT_EQ(log.phases["attention"], 2);
  EXPECT_EQ(log.phases["mlp"], 2);
}

TEST(OpWork, NobodyListens) {
  bool asked = false;
  const auto work = [&] {
    asked = true;
    return OpWork{};
  };
  { const OpScope scope("unheard", work); }
  EXPECT_FALSE(asked);
  testing::ScopeLog log;
  EXPECT_TRUE(has_scope_listener());
  { const OpScope scope("heard", work); }
  EXPECT_TRUE(asked);
  EXPECT_EQ(log.ops["heard"].calls, 1);
}

TEST(OpWork, PlanningMemoryRunsNoOps) {
  testing::ScopeLog log;
  MemoryPlan::make([] { const OpScope scope("planned", [] { return OpWork{}; }); });
  EXPECT_TRUE(log.ops.empty());
}

// A scope that was open when its listener went must not tell the next one of its end.
TEST(OpWork, ListenerMayComeWithinAScope) {
  std::optional<PhaseScope> outer(std::in_place, "outer");
  testing::ScopeLog log;
  { const PhaseScope inner("inner"); }
  outer.reset();
  EXPECT_TRUE(log.balanced());
  EXPECT_EQ(log.phases.size(), 1u);
}

}  // namespace
}  // namespace onpa::nn
