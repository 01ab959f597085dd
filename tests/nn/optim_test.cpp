#include "nn/optim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor/io/safetensors.h"

namespace onpa::nn {
namespace {

// Golden values of tests/golden/make_optim.py: rows of two parameters, (3, 7) and (11), one after
// the other.
class Pair {
 public:
  static void read_row(std::vector<float>& out, const Tensor& table, std::int64_t row) {
    const std::int64_t n = 21 + 11;
    out.assign(table.data<float>() + row * n, table.data<float>() + (row + 1) * n);
  }

  void set(const Tensor& buffer, const std::string& name, std::int64_t row) {
    std::vector<float> values;
    read_row(values, golden_.find(name), row);
    std::copy_n(values.data(), 21, params_.view(buffer, params_.slots()[0]).data<float>());
    std::copy_n(values.data() + 21, 11, params_.view(buffer, params_.slots()[1]).data<float>());
  }

  std::vector<float> get(const Tensor& buffer) const {
    std::vector<float> out = params_.view(buffer, params_.slots()[0]).to_vector<float>();
    const auto b = params_.view(buffer, params_.slots()[1]).to_vector<float>();
    out.insert(out.end(), b.begin(), b.end());
    return out;
  }

  void expect_row(const Tensor& buffer, const std::string& name, std::int64_t row, double bound) {
    std::vector<float> want;
    read_row(want, golden_.find(name), row);
    const std::vector<float> got = get(buffer);
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], bound) << name << " row " << row << " at " << i;
    }
  }

  FlatParams& params() { return params_; }
  const Tensor& golden(const std::string& name) {
    cached_ = golden_.find(name);
    return cached_;
  }

 private:
  io::SafetensorsFile golden_ = io::read_safetensors(ONPA_GOLDEN_DIR "/optim.safetensors");
  Tensor cached_;
  Tensor a_ = Tensor::zeros({3, 7}).set_requires_grad();
  Tensor b_ = Tensor::zeros({11}).set_requires_grad();
  FlatParams params_{{{"a", &a_}, {"b", &b_}}};
};

void check_against_pytorch(const std::string& name, const OptimizerConfig& config) {
  Pair pair;
  pair.set(pair.params().data(), name + ".start", 0);
  Optimizer optimizer(config, pair.params());
  for (std::int64_t step = 0; step < 6; ++step) {
    pair.set(pair.params().grad(), name + ".grads", step);
    const double want = pair.golden(name + ".norms").data<double>()[step];
    // PyTorch adds squares in float.
    ASSERT_NEAR(optimizer.step(0.01f), want, 1e-6 * want) << name << " step " << step;
    // A few roundings of parameters up to about 3, gathered over six steps.
    pair.expect_row(pair.params().data(), name + ".params", step, 1e-6);
  }
  EXPECT_EQ(optimizer.step_count(), 6);
}

TEST(Optimizer, AdamwAgreesWithPyTorch) {
  check_against_pytorch("adamw", {.weight_decay = 0.1f});
  check_against_pytorch("adamw_clip", {.weight_decay = 1e-4f, .clip_norm = 1});
}

TEST(Optimizer, SgdAgreesWithPyTorch) {
  check_against_pytorch("sgd_nesterov", {.kind = "sgd", .weight_decay = 1e-2f});
  check_against_pytorch(
      "sgd_momentum_clip",
      {.kind = "sgd", .weight_decay = 0, .momentum = 0.8f, .nesterov = false, .clip_norm = 2.5f});
  check_against_pytorch("sgd_plain", {.kind = "sgd", .weight_decay = 1e-2f, .momentum = 0});
}

TEST(Optimizer, ScalesGradientsBeforeItClips) {
  Pair one, two;
  for (Pair* pair : {&one, &two}) {
    pair->set(pair->params().data(), "adamw.start", 0);
    pair->set(pair->params().grad(), "adamw.grads", 3);
  }
  for (float& g : two.params().grad().span<float>()) g *= 4;
  Optimizer first({.clip_norm = 1}, one.params()), second({.clip_norm = 1}, two.params());
  const double norm = first.step(0.1f);
  EXPECT_DOUBLE_EQ(second.step(0.1f, 0.25f), norm);
  EXPECT_EQ(two.get(two.params().data()), one.get(one.params().data()));
}

TEST(Optimizer, ChangesNothingOnNanOrInfinity) {
  for (const char* kind : {"adamw", "sgd"}) {
    for (const float bad : {NAN, INFINITY}) {
      Pair pair;
      pair.set(pair.params().data(), "adamw.start", 0);
      pair.set(pair.params().grad(), "adamw.grads", 2);
      Optimizer optimizer({.kind = kind, .clip_norm = 1}, pair.params());
      optimizer.step(0.1f);
      const std::vector<float> before = pair.get(pair.params().data());
      std::vector<std::vector<float>> state;
      for (const auto& [name, buffer] : optimizer.state()) state.push_back(pair.get(buffer));
      pair.params().grad().data<float>()[17] = bad;
      EXPECT_FALSE(std::isfinite(optimizer.step(0.1f))) << kind;
      EXPECT_EQ(pair.get(pair.params().data()), before) << kind;
      for (std::size_t i = 0; i < state.size(); ++i) {
        EXPECT_EQ(pair.get(optimizer.state()[i].second), state[i]) << kind;
      }
      EXPECT_EQ(optimizer.step_count(), 1) << kind;
    }
  }
}

TEST(Optimizer, PaddingStaysZero) {
  Pair pair;
  pair.set(pair.params().data(), "adamw.start", 0);
  pair.set(pair.params().grad(), "adamw.grads", 2);
  Optimizer optimizer({.weight_decay = 0.1f}, pair.params());
  optimizer.step(0.1f);
  for (std::int64_t i = 21; i < 32; ++i) EXPECT_EQ(pair.params().data().data<float>()[i], 0.0f);
}

TEST(Optimizer, ContinuesBitEqualFromSavedState) {
  Pair straight, resumed;
  for (Pair* pair : {&straight, &resumed}) {
    pair->set(pair->params().data(), "adamw.start", 0);
  }
  Optimizer a({}, straight.params());
  for (std::int64_t step = 0; step < 3; ++step) {
    straight.set(straight.params().grad(), "adamw.grads", step);
    a.step(0.01f);
  }
  resumed.params().data().copy_from(straight.params().data());
  Optimizer b({}, resumed.params());
  for (std::size_t i = 0; i < 2; ++i) b.state()[i].second.copy_from(a.state()[i].second);
  b.set_step_count(a.step_count());
  for (std::int64_t step = 3; step < 6; ++step) {
    straight.set(straight.params().grad(), "adamw.grads", step);
    resumed.set(resumed.params().grad(), "adamw.grads", step);
    a.step(0.01f);
    b.step(0.01f);
  }
  EXPECT_EQ(resumed.get(resumed.params().data()), straight.get(straight.params().data()));
}

std::string config_error(const OptimizerConfig& config) {
  Pair pair;
  try {
    Optimizer optimizer(config, pair.params());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
  return "no error";
}

// One buffer of `numel` parameters with made-up gradients.
class Line {
 public:
  explicit Line(std::int64_t numel) : tensor_(Tensor::empty({numel})) {
    tensor_.set_requires_grad();
    fill(tensor_, 1);
    params_.emplace(std::vector<std::pair<std::string, Tensor*>>{{"x", &tensor_}});
  }
  static void fill(const Tensor& buffer, std::int64_t step) {
    std::int64_t i = 0;
    for (float& x : buffer.span<float>()) {
      x = static_cast<float>(std::sin(static_cast<double>(step * 1000 + ++i)));
    }
  }
  FlatParams& params() { return *params_; }

 private:
  Tensor tensor_;
  std::optional<FlatParams> params_;
};

// Ranks with a shard each; after a step all parts are put together, as the ranks of a job do it.
void check_shards(const OptimizerConfig& config, std::int64_t numel, int count) {
  Line whole(numel);
  Optimizer reference(config, whole.params());
  std::vector<std::unique_ptr<Line>> lines;
  std::vector<std::unique_ptr<Optimizer>> optimizers;
  for (int index = 0; index < count; ++index) {
    lines.push_back(std::make_unique<Line>(numel));
    optimizers.push_back(
        std::make_unique<Optimizer>(config, lines.back()->params(), OptimizerShard{index, count}));
  }
  const std::int64_t n = whole.params().numel(), part = optimizers[0]->shard().part_numel(n);
  for (const auto& [name, buffer] : optimizers[0]->state()) {
    EXPECT_EQ(buffer.numel(), n - (count - 1) * part);
  }
  for (std::int64_t step = 2; step < 5; ++step) {
    Line::fill(whole.params().grad(), step);
    const double norm = reference.step(0.01f, 0.5f);
    for (int index = 0; index < count; ++index) {
      const FlatParams& params = lines[static_cast<std::size_t>(index)]->params();
      Line::fill(params.grad(), step);
      EXPECT_EQ(optimizers[static_cast<std::size_t>(index)]->step(0.01f, 0.5f), norm);
      for (const auto& other : lines) {
        if (&other->params() == &params) continue;
        const Tensor mine = params.data().slice(index * part, (index + 1) * part);
        other->params().data().slice(index * part, (index + 1) * part).copy_from(mine);
      }
    }
    for (const auto& line : lines) {
      EXPECT_EQ(line->params().data().to_vector<float>(), whole.params().data().to_vector<float>())
          << numel << " parameters on " << count << ", step " << step;
    }
  }
}

TEST(Optimizer, ShardsTogetherTakeTheStepOfOne) {
  for (const std::int64_t numel : {1, 31, 97, 1000}) {
    for (const int count : {1, 2, 3, 7}) {
      check_shards({.clip_norm = 1}, numel, count);
      check_shards({.kind = "sgd"}, numel, count);
      check_shards({.kind = "sgd", .momentum = 0, .nesterov = false}, numel, count);
    }
  }
  Line line(97);
  EXPECT_THROW(Optimizer({}, line.params(), {3, 3}), Error);
}

// Three parameters; of these "b" is frozen where it is asked for.
class Groups {
 public:
  explicit Groups(bool frozen) {
    b_.set_requires_grad(!frozen);
    params_.emplace(
        std::vector<std::pair<std::string, Tensor*>>{{"a", &a_}, {"b", &b_}, {"c", &c_}});
    fill(params_->data(), 1);
  }
  FlatParams& params() { return *params_; }
  Tensor view(const Tensor& buffer, char name) const {
    const auto has_name = [name](const FlatSlot& slot) { return slot.name[0] == name; };
    return params_->view(buffer, *std::ranges::find_if(params_->slots(), has_name));
  }
  // Each parameter that the buffer has room for, whatever its place.
  void fill(const Tensor& buffer, int turn) const {
    const bool all = buffer.numel() == params_->numel();
    for (const FlatSlot& slot : all ? params_->slots() : params_->learning_slots()) {
      float i = 0;
      for (float& x : view(buffer, slot.name[0]).span<float>()) {
        x = std::sin(0.7f * ++i + static_cast<float>(turn) + static_cast<float>(slot.name[0]));
      }
    }
  }

 private:
  Tensor a_ = Tensor::zeros({37}).set_requires_grad();
  Tensor b_ = Tensor::zeros({90}).set_requires_grad();
  Tensor c_ = Tensor::zeros({5}).set_requires_grad();
  std::optional<FlatParams> params_;
};

double group_rate(const std::string& name) {
  return name == "a" ? 0.25 : name == "b" ? 3 : 1;
}

// As three optimizers with a rate each.
TEST(Optimizer, GivesEachParameterItsRate) {
  for (const char* kind : {"adamw", "sgd"}) {
    Groups scaled(false);
    OptimizerConfig config = {.kind = kind, .eps = 1e-3f, .weight_decay = 0.1f};
    std::vector<std::unique_ptr<Groups>> plain;
    std::vector<std::unique_ptr<Optimizer>> optimizers;
    for (int i = 0; i < 3; ++i) {
      plain.push_back(std::make_unique<Groups>(false));
      optimizers.push_back(std::make_unique<Optimizer>(config, plain.back()->params()));
    }
    config.rate_scale = group_rate;
    Optimizer optimizer(config, scaled.params());
    for (int step = 2; step < 6; ++step) {
      scaled.fill(scaled.params().grad(), step);
      optimizer.step(0.02f);
      for (std::size_t i = 0; i < 3; ++i) {
        plain[i]->fill(plain[i]->params().grad(), step);
        const std::string name(1, "abc"[i]);
        optimizers[i]->step(0.02f * static_cast<float>(group_rate(name)));
      }
    }
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(scaled.view(scaled.params().data(), "abc"[i]).to_vector<float>(),
                plain[i]->view(plain[i]->params().data(), "abc"[i]).to_vector<float>())
          << kind << " " << i;
    }
  }
}

TEST(Optimizer, LeavesFrozenParametersAloneAndKeepsNoMomentsOfThem) {
  for (const char* kind : {"adamw", "sgd"}) {
    Groups frozen(true), free(false);
    const OptimizerConfig config = {.kind = kind, .weight_decay = 0.1f, .rate_scale = group_rate};
    Optimizer of_frozen(config, frozen.params()), of_free(config, free.params());
    const std::vector<float> before = frozen.view(frozen.params().data(), 'b').to_vector<float>();
    EXPECT_EQ(frozen.params().numel(), 48 + 96 + 16);
    EXPECT_EQ(frozen.params().grad().numel(), 48 + 16);
    for (int step = 2; step < 5; ++step) {
      frozen.params().clear_grad();
      free.fill(free.params().grad(), step);
      for (const char i : {'a', 'c'}) {
        frozen.view(frozen.params().grad(), i).copy_from(free.view(free.params().grad(), i));
      }
      of_frozen.step(0.02f);
      of_free.step(0.02f);
    }
    EXPECT_EQ(frozen.view(frozen.params().data(), 'b').to_vector<float>(), before);
    EXPECT_NE(free.view(free.params().data(), 'b').to_vector<float>(), before);
    for (const char i : {'a', 'c'}) {
      EXPECT_EQ(frozen.view(frozen.params().data(), i).to_vector<float>(),
                free.view(free.params().data(), i).to_vector<float>());
      for (std::size_t m = 0; m < of_frozen.state().size(); ++m) {
        const Tensor moment = of_frozen.state()[m].second;
        EXPECT_EQ(moment.numel(), 48 + 16);
        EXPECT_EQ(frozen.view(moment, i).to_vector<float>(),
                  free.view(of_free.state()[m].second, i).to_vector<float>());
      }
    }
  }
}

TEST(Optimizer, ShardsOfParametersWithRatesTakeTheStepOfOne) {
  const OptimizerConfig config = {.rate_scale = group_rate};
  for (const int count : {2, 3}) {
    Groups whole(true);
    Optimizer reference(config, whole.params());
    whole.fill(whole.params().grad(), 3);
    reference.step(0.01f);
    const std::int64_t learning = whole.params().learning_numel();
    const std::int64_t part = OptimizerShard{0, count}.part_numel(learning);
    std::vector<float> together = whole.params().data().to_vector<float>();
    for (int index = 0; index < count; ++index) {
      Groups mine(true);
      Optimizer optimizer(config, mine.params(), {index, count});
      mine.fill(mine.params().grad(), 3);
      optimizer.step(0.01f);
      const std::vector<float> got = mine.params().data().to_vector<float>();
      std::copy_n(got.begin() + index * part, part, together.begin() + index * part);
      std::copy(got.begin() + count * part, got.begin() + learning,
                together.begin() + count * part);
      EXPECT_TRUE(std::equal(got.begin() + learning, got.end(), together.begin() + learning));
    }
    EXPECT_EQ(together, whole.params().data().to_vector<float>()) << count;
  }
}

TEST(Optimizer, BadConfig) {
  EXPECT_EQ(config_error({.kind = "adam"}), "optimizer: unknown kind \"adam\", want adamw or sgd");
  EXPECT_EQ(config_error({.beta1 = 1}), "optimizer: beta1 is 1, want [0, 1)");
  EXPECT_EQ(config_error({.beta2 = NAN}), "optimizer: beta2 is nan, want [0, 1)");
  EXPECT_EQ(config_error({.eps = 0}), "optimizer: eps is 0, want a positive number");
  EXPECT_EQ(config_error({.weight_decay = -1}), "optimizer: weight_decay is -1, want 0 or more");
  EXPECT_EQ(config_error({.momentum = -0.5f}), "optimizer: momentum is -0.5, want [0, 1)");
  EXPECT_EQ(config_error({.clip_norm = INFINITY}), "optimizer: clip_norm is inf, want 0 or more");
  Pair pair;
  Optimizer optimizer({}, pair.params());
  EXPECT_THROW(optimizer.step(NAN), Error);
}

TEST(AveragedParams, AgreeWithPyTorch) {
  Pair pair;
  AveragedParams swa(pair.params()), ema(pair.params());
  for (std::int64_t step = 0; step < 6; ++step) {
    pair.set(pair.params().data(), "average.params", step);
    swa.update_swa();
    // PyTorch copies at the first call of either.
    if (step == 0) {
      ema.update_ema(0);
    } else {
      ema.update_ema(0.9);
    }
    pair.expect_row(swa.data(), "average.swa", step, 1e-6);
    pair.expect_row(ema.data(), "average.ema", step, 1e-6);
  }
  EXPECT_EQ(swa.count(), 6);
}

TEST(AveragedParams, SwapTwiceIsNothing) {
  Pair pair;
  pair.set(pair.params().data(), "average.params", 0);
  AveragedParams average(pair.params());
  pair.set(pair.params().data(), "average.params", 1);
  average.swap();
  pair.expect_row(pair.params().data(), "average.params", 0, 0);
  pair.expect_row(average.data(), "average.params", 1, 0);
  average.swap();
  pair.expect_row(pair.params().data(), "average.params", 1, 0);
}

}  // namespace
}  // namespace onpa::nn
