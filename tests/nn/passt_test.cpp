#include "nn/passt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernels/loss.h"
#include "nn/optim.h"
#include "nn/transformer.h"
#include "tensor/autograd.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"
#include "tensor/ops/math.h"
#include "tests/support/gradcheck.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

PasstConfig tiny_config() {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.width = 16;
  config.mlp = 32;
  config.outputs = 3;
  config.head_dist = true;
  return config;
}

// A spectrogram that fills the grid `columns` wide.
Tensor tiny_mel(std::int64_t batch, std::int64_t columns) {
  return testing::hash_tensor({batch, 32, (columns - 1) * 5 + 8}, "mel", 1.5f);
}

std::map<std::string, Tensor> by_name(const Module& module) {
  std::map<std::string, Tensor> out;
  for (const NamedParameter& p : module.parameters()) out[p.name] = p.tensor;
  return out;
}

TEST(Passt, HasTheTensorsOfPublishedFiles) {
  const Passt model(PasstConfig::preset("passt-s"));
  std::vector<std::pair<std::string, Shape>> want = {{"cls_token", {1, 1, 768}},
                                                     {"dist_token", {1, 1, 768}},
                                                     {"new_pos_embed", {1, 2, 768}},
                                                     {"freq_new_pos_embed", {1, 768, 12, 1}},
                                                     {"time_new_pos_embed", {1, 768, 1, 99}},
                                                     {"patch_embed.proj.weight", {768, 1, 16, 16}},
                                                     {"patch_embed.proj.bias", {768}}};
  for (int i = 0; i < 12; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    want.insert(want.end(), {{block + "norm1.weight", {768}},
                             {block + "norm1.bias", {768}},
                             {block + "attn.qkv.weight", {2304, 768}},
                             {block + "attn.qkv.bias", {2304}},
                             {block + "attn.proj.weight", {768, 768}},
                             {block + "attn.proj.bias", {768}},
                             {block + "norm2.weight", {768}},
                             {block + "norm2.bias", {768}},
                             {block + "mlp.fc1.weight", {3072, 768}},
                             {block + "mlp.fc1.bias", {3072}},
                             {block + "mlp.fc2.weight", {768, 3072}},
                             {block + "mlp.fc2.bias", {768}}});
  }
  want.insert(want.end(), {{"norm.weight", {768}},
                           {"norm.bias", {768}},
                           {"head.0.weight", {768}},
                           {"head.0.bias", {768}},
                           {"head.1.weight", {527, 768}},
                           {"head.1.bias", {527}},
                           {"head_dist.weight", {527, 768}},
                           {"head_dist.bias", {527}}});
  const std::vector<NamedParameter> got = model.parameters();
  ASSERT_EQ(got.size(), 159u);
  ASSERT_EQ(want.size(), 159u);
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].name, want[i].first);
    EXPECT_EQ(got[i].tensor.shape(), want[i].second) << got[i].name;
  }
}

TEST(Passt, CountsTheParametersOfPublishedModels) {
  EXPECT_EQ(Passt(PasstConfig::preset("passt-s")).parameter_count(), 86153758);
  const Passt shallow(PasstConfig::preset("passt-l"));
  EXPECT_EQ(shallow.parameter_count(), 50714398);
  EXPECT_EQ(shallow.parameters().size(), 99u);
  PasstConfig half_minute = PasstConfig::preset("passt-s");
  half_minute.table_t = 300;
  EXPECT_EQ(Passt(half_minute).parameter_count(), 86308126);
}

TEST(Passt, RejectsConfigsOutOfRange) {
  EXPECT_THROW(PasstConfig::preset("passt-m"), Error);
  const auto message = [](auto change) {
    PasstConfig config;
    change(config);
    try {
      Passt model(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message([](PasstConfig& c) { c.heads = 7; }).find("heads is 7"), std::string::npos);
  EXPECT_NE(message([](PasstConfig& c) { c.stride_t = 0; }).find("stride_t"), std::string::npos);
  EXPECT_NE(message([](PasstConfig& c) { c.patch_f = 129; }).find("patch_f"), std::string::npos);
  EXPECT_NE(message([](PasstConfig& c) { c.depth = -1; }).find("depth"), std::string::npos);
}

TEST(Passt, InitialisesAsThePublicCode) {
  Passt model(PasstConfig::preset("passt-xs"));
  model.initialize(11);
  for (const auto& [name, tensor] : by_name(model)) {
    const std::vector<float> values = tensor.to_vector<float>();
    const auto [lowest, highest] = std::ranges::minmax(values);
    SCOPED_TRACE(name);
    if (name.find("norm") != std::string::npos || name.starts_with("head.0")) {
      const float want = name.ends_with("weight") ? 1 : 0;
      EXPECT_TRUE(lowest == want && highest == want);
    } else if (name.starts_with("patch_embed")) {
      EXPECT_GE(lowest, -0.125f);
      EXPECT_LE(highest, 0.125f);
      EXPECT_GT(highest, 0.1f);
    } else if (name.ends_with("bias")) {
      EXPECT_TRUE(lowest == 0 && highest == 0);
    } else {
      EXPECT_LT(highest, 0.12f);  // six deviations
      EXPECT_GT(highest, 0.02f);
      EXPECT_LT(lowest, -0.02f);
    }
  }
  Passt again(PasstConfig::preset("passt-xs"));
  again.initialize(11);
  EXPECT_EQ(by_name(again)["head.1.weight"].to_vector<float>(),
            by_name(model)["head.1.weight"].to_vector<float>());
  again.initialize(12);
  EXPECT_NE(by_name(again)["head.1.weight"].to_vector<float>(),
            by_name(model)["head.1.weight"].to_vector<float>());
}

TEST(Patchout, KeepsTheRightNumberInOrder) {
  const auto keep = draw_patchout({.time = 40, .freq = 4, .unstructured = 7}, 12, 99, 1, 2);
  EXPECT_EQ(keep.size(), 8u * 59 - 7);
  EXPECT_TRUE(std::ranges::is_sorted(keep, std::less_equal<>()));
  EXPECT_GE(keep.front(), 0);
  EXPECT_LT(keep.back(), 12 * 99);
  EXPECT_EQ(draw_patchout({.time = 120, .freq = 4}, 12, 299, 1, 2).size(), 1432u);
  EXPECT_EQ(draw_patchout({}, 12, 99, 1, 2).size(), 1188u);
}

TEST(Patchout, StructuredSetsAreRowsTimesColumns) {
  std::set<int> rows, columns;
  const auto keep = draw_patchout({.time = 3, .freq = 2}, 5, 11, 4, 9);
  for (const std::int32_t cell : keep) {
    rows.insert(cell / 11);
    columns.insert(cell % 11);
  }
  EXPECT_EQ(rows.size(), 3u);
  EXPECT_EQ(columns.size(), 8u);
  EXPECT_EQ(keep.size(), rows.size() * columns.size());
}

TEST(Patchout, DependsOnSeedAndStepAlone) {
  const Patchout patchout{.time = 5, .freq = 1, .unstructured = 3};
  EXPECT_EQ(draw_patchout(patchout, 6, 19, 1, 2), draw_patchout(patchout, 6, 19, 1, 2));
  EXPECT_NE(draw_patchout(patchout, 6, 19, 1, 2), draw_patchout(patchout, 6, 19, 1, 3));
  EXPECT_NE(draw_patchout(patchout, 6, 19, 1, 2), draw_patchout(patchout, 6, 19, 2, 2));
}

TEST(Patchout, DropsEveryCellEquallyOften) {
  std::vector<int> kept(5 * 8);
  const int steps = 4000;
  for (int step = 0; step < steps; ++step) {
    const Patchout patchout{.time = 2, .freq = 1, .unstructured = 3};
    for (const std::int32_t cell : draw_patchout(patchout, 5, 8, 7, static_cast<unsigned>(step))) {
      ++kept[static_cast<std::size_t>(cell)];
    }
  }
  const double share = 21.0 / 40;  // five standard errors of a binomial count
  const double bound = 5 * std::sqrt(steps * share * (1 - share));
  for (const int count : kept) EXPECT_NEAR(count, steps * share, bound);
}

TEST(Patchout, RefusesToDropEverything) {
  for (const Patchout& patchout : {Patchout{.time = 8}, Patchout{.freq = 5},
                                   Patchout{.unstructured = 40}, Patchout{.time = -1}}) {
    try {
      draw_patchout(patchout, 5, 8, 1, 1);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
    }
  }
  EXPECT_EQ(draw_patchout({.time = 7, .freq = 4}, 5, 8, 1, 1).size(), 1u);
}

class PasstForward : public ::testing::Test {
 protected:
  PasstForward() : model(tiny_config()) { testing::hash_fill_parameters(model); }
  std::vector<float> logits(const Tensor& mel, const Patchout& patchout = {}, int seed = 0,
                            int step = 0) {
    NoGrad no_grad;
    return model.forward(mel, patchout, static_cast<unsigned>(seed), static_cast<unsigned>(step))
        .logits.to_vector<float>();
  }
  Passt model;
};

TEST_F(PasstForward, EvaluationIgnoresSeedStepAndPatchout) {
  const Tensor mel = tiny_mel(2, 11);
  EXPECT_EQ(logits(mel), logits(mel, {.time = 3, .freq = 2, .unstructured = 5}, 8, 9));
}

TEST_F(PasstForward, TrainingDrawsFromSeedAndStep) {
  model.train();
  const Tensor mel = tiny_mel(2, 19);
  const Patchout patchout{.time = 3};
  EXPECT_EQ(logits(mel, patchout, 1, 1), logits(mel, patchout, 1, 1));
  EXPECT_NE(logits(mel, patchout, 1, 1), logits(mel, patchout, 1, 2));
  EXPECT_NE(logits(mel, patchout, 1, 1), logits(mel, patchout, 2, 1));
}

TEST_F(PasstForward, OffsetIsDrawnOnlyInTrainingAndForShortClips) {
  const Tensor whole = tiny_mel(1, 19), part = tiny_mel(1, 12);
  const auto whole_eval = logits(whole), part_eval = logits(part);
  model.train();
  EXPECT_EQ(logits(whole, {}, 1, 1), whole_eval);  // the table is full: nothing to draw
  std::set<std::vector<float>> seen;
  for (int step = 0; step < 100; ++step) seen.insert(logits(part, {}, 1, step));
  EXPECT_EQ(seen.size(), 19u - 12 + 1);  // every offset occurs, and 0 equals evaluation
  EXPECT_TRUE(seen.contains(part_eval));
}

TEST_F(PasstForward, CutsClipsLongerThanTheTable) {
  const Tensor longer = tiny_mel(1, 25);
  Tensor cut = Tensor::empty({1, 32, 18 * 5 + 8});
  for (std::int64_t f = 0; f < 32; ++f) {
    std::copy_n(longer.data<float>() + f * longer.size(2), cut.size(2),
                cut.data<float>() + f * cut.size(2));
  }
  EXPECT_EQ(logits(longer), logits(cut));
}

TEST_F(PasstForward, SamplesOfABatchDoNotMix) {
  const Tensor both = tiny_mel(2, 7);
  const auto together = logits(both);
  const auto first = logits(both.slice(0, 1)), second = logits(both.slice(1, 2));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(together[i], first[i], 1e-6);
    EXPECT_NEAR(together[3 + i], second[i], 1e-6);
  }
}

TEST_F(PasstForward, RejectsForeignSpectrograms) {
  EXPECT_THROW(logits(Tensor::zeros({1, 31, 40})), Error);
  EXPECT_THROW(logits(Tensor::zeros({32, 40})), Error);
  EXPECT_THROW(logits(Tensor::zeros({1, 32, 7})), Error);
  EXPECT_EQ(logits(Tensor::zeros({1, 32, 8})).size(), 3u);
}

TEST_F(PasstForward, DrawsWithTheStepInMemory) {
  model.train();
  const Tensor mel = tiny_mel(2, 12);
  const auto run = [&](std::uint64_t step) {
    return model.forward(mel, {.time = 4, .unstructured = 5}, 3, step).logits.to_vector<float>();
  };
  const auto fifth = run(5), sixth = run(6);
  ASSERT_NE(fifth, sixth);
  kernels::StepState state{.step = 6};
  model.set_step_state(&state);
  EXPECT_EQ(run(5), sixth);
  state.step = 5;
  EXPECT_EQ(run(6), fifth);
  model.set_step_state(nullptr);
  EXPECT_EQ(run(6), sixth);
}

TEST_F(PasstForward, DroppedPatchesGetNoGradient) {
  model.train();
  const Tensor mel = tiny_mel(2, 12);
  const Patchout patchout{.time = 4, .freq = 2};
  const auto keep = draw_patchout(patchout, 5, 12, 3, 5);
  std::set<std::int64_t> rows, columns;
  for (const std::int32_t cell : keep) {
    rows.insert(cell / 12);
    columns.insert(cell % 12);
  }
  backward(ops::mean(model.forward(mel, patchout, 3, 5).logits));

  auto parameters = by_name(model);
  const std::vector<float> freq = parameters["freq_new_pos_embed"].grad().to_vector<float>();
  const std::vector<float> time = parameters["time_new_pos_embed"].grad().to_vector<float>();
  std::set<std::int64_t> freq_seen, time_seen;
  for (std::size_t i = 0; i < freq.size(); ++i) {
    if (freq[i] != 0) freq_seen.insert(static_cast<std::int64_t>(i % 5));
  }
  for (std::size_t i = 0; i < time.size(); ++i) {
    if (time[i] != 0) time_seen.insert(static_cast<std::int64_t>(i % 19));
  }
  EXPECT_EQ(freq_seen, rows);
  ASSERT_EQ(time_seen.size(), columns.size());
  // The table's columns are the kept ones, shifted by one offset in [0, 19 - 12].
  const std::int64_t offset = *time_seen.begin() - *columns.begin();
  EXPECT_GE(offset, 0);
  EXPECT_LE(offset, 7);
  for (const std::int64_t column : columns) EXPECT_TRUE(time_seen.contains(column + offset));
}

TEST_F(PasstForward, OnlyTheDistillationHeadGetsNoGradient) {
  model.train();
  backward(ops::mean(model.forward(tiny_mel(1, 19)).logits));
  for (const auto& [name, tensor] : by_name(model)) {
    EXPECT_EQ(tensor.grad().defined(), !name.starts_with("head_dist")) << name;
  }
}

TEST(Block, LeadingQueriesEqualTheFullBlock) {
  Block block(16, 4, 32);
  testing::hash_fill_parameters(block);
  const Tensor x = testing::hash_tensor({2, 37, 16}, "x", 1);
  NoGrad no_grad;
  const std::vector<float> full = block.forward(x).to_vector<float>();
  const std::vector<float> leading = block.forward(x, 2).to_vector<float>();
  ASSERT_EQ(leading.size(), 2u * 2 * 16);
  for (std::size_t b = 0; b < 2; ++b) {
    for (std::size_t i = 0; i < 2 * 16; ++i) {
      EXPECT_NEAR(leading[b * 32 + i], full[b * 37 * 16 + i], 1e-5);
    }
  }
}

// Training memory of one step above what is held before and after it.
std::size_t step_bytes(const Passt& model, std::int64_t columns) {
  const Tensor mel = tiny_mel(1, columns);
  reset_peak_memory();
  const std::size_t before = memory_stats().live_bytes;
  backward(ops::mean(model.forward(mel).logits));
  return memory_stats().peak_bytes - before;
}

TEST(PasstMemory, GrowsLinearlyWithTokens) {
  PasstConfig config = tiny_config();
  config.table_t = 400;
  Passt model(config);
  testing::hash_fill_parameters(model);
  step_bytes(model, 50);  // the first step also makes the gradients of the parameters
  const double small = static_cast<double>(step_bytes(model, 100));
  const double large = static_cast<double>(step_bytes(model, 400));
  // 502 and 2002 tokens. One 4-head score matrix of the larger would be 64 MB by itself.
  EXPECT_LT(large, 4.4 * small);
  EXPECT_LT(large, 32e6);
}

TEST(PasstTraining, OverfitsOneBatchWithinNinetySteps) {
  Passt model(tiny_config());
  model.initialize(1);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({.weight_decay = 0}, params);
  const Tensor mel = tiny_mel(4, 19);
  const Tensor target = testing::hash_tensor({4, 3}, "target", 0.5f);
  double first = 0, last = 0;
  for (unsigned step = 0; step < 90; ++step) {
    params.clear_grad();
    const Passt::Output output = model.forward(mel, {}, 1, step);
    const Tensor loss = ops::loss(output.logits, target, kernels::LossKind::kMse);
    backward(loss);
    params.finish_grad();
    optimizer.step(3e-3f);
    if (step == 0) first = loss.item();
    last = loss.item();
  }
  EXPECT_GT(first, 0.03);
  EXPECT_LT(last, first / 1000);
}

}  // namespace
}  // namespace onpa::nn
