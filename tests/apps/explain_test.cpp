// Attributions against the public model's gradients, their sums, and on a model that is known to
// hear one patch alone.
#include "apps/inference/explain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "nn/attention_maps.h"
#include "nn/optim.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/flat_params.h"
#include "tensor/io/safetensors.h"
#include "tensor/ops/loss.h"
#include "tests/support/explain_golden.h"
#include "tests/support/gradcheck.h"
#include "tests/support/hash_fill.h"

namespace onpa::apps {
namespace {

using testing::largest_difference;

ModelCard card_of(const nn::PasstConfig& config) {
  ModelCard card;
  card.kind = "passt";
  card.passt = config;
  card.mel.mels = static_cast<int>(config.mels);
  return card;
}

// As in tests/golden/make_explain.py: three frames at the end are under no patch.
class ExplainGolden : public ::testing::Test {
 protected:
  static nn::PasstConfig config() { return testing::explain_config(); }
  ExplainGolden() { testing::hash_fill_parameters(model_); }
  Tensor want(const std::string& name) const { return want_.find(name); }
  Explanation run(ExplainMethod method, std::int64_t steps = 16) {
    return explain(model_, card_, mel_,
                   {.method = method, .output = is_attention(method) ? -1 : 3, .steps = steps});
  }

  nn::Passt model_{config()};
  ModelCard card_ = card_of(config());
  Tensor mel_ = testing::hash_tensor({1, 32, 53}, "mel", 1.5f);
  io::SafetensorsFile want_ =
      io::read_safetensors(std::filesystem::path(ONPA_GOLDEN_DIR) / "explain.safetensors");
};

TEST_F(ExplainGolden, GradientEqualsThePublicModels) {
  const Explanation got = run(ExplainMethod::kGradient);
  EXPECT_NEAR(got.value, want("values").data<float>()[0], 1e-5);
  EXPECT_LT(largest_difference(got.map, want("gradient")), 1e-5);
  for (std::int64_t f = 0; f < 32; ++f) EXPECT_EQ(got.map.data<float>()[f * 53 + 52], 0);
}

TEST_F(ExplainGolden, GradientTimesInputIsMeasuredFromSilence) {
  const Tensor product = want("gradient").clone();
  for (std::int64_t i = 0; i < product.numel(); ++i) {
    product.data<float>()[i] *= mel_.data<float>()[i] - silence_level(card_.mel);
  }
  EXPECT_LT(largest_difference(run(ExplainMethod::kGradientInput).map, product), 1e-5);
}

TEST_F(ExplainGolden, IntegratedGradientsEqualThePublicModels) {
  EXPECT_NEAR(silence_level(card_.mel), -1.402585, 1e-6);
  const Explanation got = run(ExplainMethod::kIntegrated);
  EXPECT_NEAR(got.silence_value, want("values").data<float>()[1], 1e-5);
  EXPECT_LT(largest_difference(got.map, want("integrated")), 1e-5);
}

// Sensitivity of the midpoint rule: the error falls with the square of the steps.
TEST_F(ExplainGolden, IntegratedGradientsSumToTheChangeOfThePrediction) {
  const Explanation few = run(ExplainMethod::kIntegrated, 4);
  const Explanation many = run(ExplainMethod::kIntegrated, 64);
  EXPECT_GT(std::abs(many.value - many.silence_value), 0.5);
  EXPECT_LT(many.gap(), 1e-3);
  EXPECT_LT(many.gap(), few.gap() / 4);
}

// What the command says of a regressor is in the units of its target.
TEST_F(ExplainGolden, AttributionsAreInTheUnitsOfTheTarget) {
  const Explanation bare = run(ExplainMethod::kIntegrated, 64);
  card_.target_mean = 50;
  card_.target_std = 20;
  const Explanation scaled = run(ExplainMethod::kIntegrated, 64);
  EXPECT_NEAR(scaled.value, 50 + 20 * bare.value, 1e-4);
  EXPECT_NEAR(scaled.sum, 20 * bare.sum, 1e-4);
  EXPECT_LT(scaled.gap(), 1e-3);
}

TEST_F(ExplainGolden, AttentionMapsAreTheMeanOfThePrefixRows) {
  const Tensor rows = want("rollout");
  const Explanation got = run(ExplainMethod::kRollout);
  ASSERT_EQ(got.map.shape(), (Shape{5, 8}));
  for (std::int64_t i = 0; i < 40; ++i) {
    const float* row = rows.data<float>() + 2 + i;
    EXPECT_NEAR(got.map.data<float>()[i], (row[0] + row[42]) / 2, 1e-6);
  }
}

TEST_F(ExplainGolden, ModelIsAsItWasAfterwards) {
  model_.train();
  run(ExplainMethod::kIntegrated, 2);
  EXPECT_TRUE(model_.training());
  for (const nn::NamedParameter& p : model_.parameters()) {
    EXPECT_TRUE(p.tensor.requires_grad());
    EXPECT_FALSE(p.tensor.grad().defined()) << p.name;
  }
}

TEST_F(ExplainGolden, TheLargestOutputIsExplainedUnlessOneIsNamed) {
  const NoGrad no_grad;
  const std::vector<float> logits = model_.forward(mel_).logits.to_vector<float>();
  const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const Explanation got = explain(model_, card_, mel_, {.method = ExplainMethod::kRollout});
  EXPECT_EQ(got.output, top);
}

TEST_F(ExplainGolden, ChoicesThatTheModelOrTheMethodLacksAreRefused) {
  const auto refused = [&](const ExplainOptions& options) {
    try {
      check_explain_options(options, config());
    } catch (const Error& error) {
      return error.code() == ExitCode::kUsage;
    }
    return false;
  };
  using enum ExplainMethod;
  EXPECT_TRUE(refused({.method = kAttention, .layer = 3}));
  EXPECT_TRUE(refused({.method = kAttention, .head = 4}));
  EXPECT_TRUE(refused({.method = kRollout, .layer = 0}));
  EXPECT_TRUE(refused({.method = kIntegrated, .head = 0}));
  EXPECT_TRUE(refused({.method = kIntegrated, .output = 5}));
  EXPECT_TRUE(refused({.method = kIntegrated, .output = -2}));
  EXPECT_TRUE(refused({.method = kRollout, .output = 0}));
  EXPECT_TRUE(refused({.method = kIntegrated, .steps = 0}));
  EXPECT_FALSE(refused({.method = kAttention, .layer = 2, .head = 3}));
  EXPECT_FALSE(refused({.method = kGradient, .output = 4}));
}

// A simulated one where the test program has no other.
TEST_F(ExplainGolden, OnAGpuTheMapsAreTheSame) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  if (const std::string problem = cuda_problem(); !problem.empty()) GTEST_SKIP() << problem;
  using enum ExplainMethod;
  std::vector<Tensor> want;
  for (const ExplainMethod method : {kRollout, kAttention, kGradient, kIntegrated}) {
    want.push_back(run(method).map);
  }
  model_.move_to(DeviceKind::kCuda, DType::kF32);
  mel_ = mel_.to(DeviceKind::kCuda);
  std::size_t i = 0;
  for (const ExplainMethod method : {kRollout, kAttention, kGradient, kIntegrated}) {
    EXPECT_LT(largest_difference(run(method).map, want[i++]), 1e-5);
  }
}

TEST(SpreadOverCells, OverlapsAreAveraged) {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-xs");
  config.mels = 3;
  config.patch_f = config.patch_t = 2;
  config.stride_f = config.stride_t = 1;
  const Tensor patches = Tensor::from<float>({2, 2}, std::vector<float>{1, 2, 3, 4});
  const Tensor cells = spread_over_cells(patches, config, 4);  // the last column under no patch
  const std::vector<float> want = {1, 1.5, 2, 0, 2, 2.5, 3, 0, 3, 3.5, 4, 0};
  EXPECT_EQ(cells.to_vector<float>(), want);
}

// Clips of 12 patches, each of a level of its own under noise; the target is the level of one.
class ExplainTrained : public ::testing::Test {
 protected:
  static constexpr std::int64_t kRow = 1, kColumn = 3, kPatch = 8, kColumns = 6, kBatch = 32;

  static nn::PasstConfig config() {
    nn::PasstConfig c;
    c.mels = 2 * kPatch;
    c.patch_f = c.patch_t = c.stride_f = c.stride_t = kPatch;
    c.table_t = kColumns;
    c.width = 16;
    c.heads = 2;
    c.depth = 2;
    c.mlp = 32;
    c.outputs = 1;
    c.head_dist = false;
    return c;
  }
  static Tensor clips(std::int64_t count, std::uint64_t seed, Tensor& target) {
    const Tensor levels = testing::random_normal({count, 2, kColumns}, seed, 1, DType::kF32);
    const Tensor mel = testing::random_normal({count, 2 * kPatch, kPatch * kColumns},
                                              seed + 1000000, 1, DType::kF32);
    target = Tensor::empty({count, 1});
    float* cell = mel.data<float>();
    for (std::int64_t b = 0; b < count; ++b) {
      const float* level = levels.data<float>() + b * 2 * kColumns;
      target.data<float>()[b] = level[kRow * kColumns + kColumn];
      for (std::int64_t f = 0; f < 2 * kPatch; ++f) {
        for (std::int64_t t = 0; t < kPatch * kColumns; ++t) {
          const float noise = 0.2f * *cell;
          *cell++ = level[f / kPatch * kColumns + t / kPatch] + noise;
        }
      }
    }
    return mel;
  }
  // The mean squared error of the last steps; the target's variance is 1.
  static double train(nn::Passt& model) {
    FlatParams params(model.parameter_slots());
    nn::Optimizer optimizer({.weight_decay = 0}, params);
    double mean = 0;
    constexpr int kSteps = 600, kLast = 50;
    for (int step = 0; step < kSteps; ++step) {
      Tensor target;
      const Tensor mel = clips(kBatch, static_cast<std::uint64_t>(step), target);
      params.clear_grad();
      const Tensor loss = ops::loss(model.forward(mel).logits, target, kernels::LossKind::kMse);
      backward(loss);
      params.finish_grad();
      optimizer.step(3e-3f);
      if (step >= kSteps - kLast) mean += loss.item() / kLast;
    }
    return mean;
  }
  static double share_of_patch(const Tensor& map) {
    double in = 0, all = 0;
    for (std::int64_t f = 0; f < map.size(0); ++f) {
      for (std::int64_t t = 0; t < map.size(1); ++t) {
        const double x = std::abs(map.data<float>()[f * map.size(1) + t]);
        all += x;
        if (f / kPatch == kRow && t / kPatch == kColumn) in += x;
      }
    }
    return in / all;
  }
};

// More in that patch than in the eleven others together, where a map that knows nothing has 1/12.
TEST_F(ExplainTrained, AttributionsLieWhereTheTargetIsHeard) {
  nn::Passt model(config());
  testing::hash_fill_parameters(model);
  const double error = train(model);
  ASSERT_LT(error, 0.02);  // it has learned which patch counts
  const ModelCard card = card_of(config());
  double gradient = 0, integrated = 0;
  constexpr int kClips = 8;
  for (int i = 0; i < kClips; ++i) {
    Tensor target;
    const Tensor mel = clips(1, 5000 + static_cast<std::uint64_t>(i), target);
    gradient += share_of_patch(explain(model, card, mel, {.method = ExplainMethod::kGradient}).map);
    const Explanation sum = explain(model, card, mel, {.method = ExplainMethod::kIntegrated});
    integrated += share_of_patch(sum.map);
    EXPECT_LT(sum.gap(), 0.02);
  }
  EXPECT_GT(gradient / kClips, 0.5);
  EXPECT_GT(integrated / kClips, 0.5);
}

}  // namespace
}  // namespace onpa::apps
