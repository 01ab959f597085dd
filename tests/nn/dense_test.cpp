#include "nn/dense.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "kernels/loss.h"
#include "tensor/autograd.h"
#include "tensor/io/npy.h"
#include "tensor/ops/loss.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

DenseConfig small_config() {
  return {.inputs = 10, .hidden = {17, 8}, .outputs = 2};
}

TEST(Dense, NamesParametersByLayer) {
  const Dense model(small_config());
  const std::vector<NamedParameter> parameters = model.parameters();
  ASSERT_EQ(parameters.size(), 6u);
  EXPECT_EQ(parameters[0].name, "layers.0.weight");
  EXPECT_EQ(parameters[0].tensor.shape(), (Shape{17, 10}));
  EXPECT_EQ(parameters[3].name, "layers.1.bias");
  EXPECT_EQ(parameters[5].name, "layers.2.bias");
  EXPECT_EQ(parameters[5].tensor.shape(), Shape{2});
  EXPECT_EQ(model.parameter_count(), 17 * 11 + 8 * 18 + 2 * 9);
}

TEST(Dense, WithoutHiddenLayersIsAffine) {
  Dense model({.inputs = 3, .hidden = {}, .outputs = 1});
  for (const auto& p : model.parameters()) p.tensor.copy_from(Tensor::full(p.tensor.shape(), 2));
  NoGrad no_grad;
  const Tensor y = model.forward(Tensor::full({2, 3}, -1));
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{-4, -4}));
}

TEST(Dense, InitialisesWithinTheBoundsOfItsFanIn) {
  Dense model({.inputs = 10, .hidden = {256, 64}, .outputs = 1});
  model.initialize(3);
  const std::int64_t fan_in[] = {10, 256, 64};
  const std::vector<NamedParameter> parameters = model.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in[i / 2]));
    const std::vector<float> values = parameters[i].tensor.to_vector<float>();
    const auto [lowest, highest] = std::ranges::minmax(values);
    EXPECT_LE(highest, bound) << parameters[i].name;
    EXPECT_GE(lowest, -bound) << parameters[i].name;
    if (values.size() > 50) {
      EXPECT_GT(highest, 0.9 * bound) << parameters[i].name;
      EXPECT_LT(lowest, -0.9 * bound) << parameters[i].name;
    }
  }
  Dense again(model.config());
  again.initialize(3);
  EXPECT_EQ(again.parameters()[2].tensor.to_vector<float>(),
            parameters[2].tensor.to_vector<float>());
  again.initialize(4);
  EXPECT_NE(again.parameters()[2].tensor.to_vector<float>(),
            parameters[2].tensor.to_vector<float>());
}

// Golden values in float64: tests/golden/make_dense.py.
TEST(Dense, PredictionsLossAndGradientsEqualTorch) {
  Dense model(small_config());
  for (const auto& p : model.parameters()) testing::hash_fill(p.tensor, p.name, 0, 0.5f);
  const Tensor x = testing::hash_tensor({5, 10}, "x", 1.0f);
  const Tensor target = testing::hash_tensor({5, 2}, "target", 0.5f);
  const Tensor y = model.forward(x);
  const Tensor loss = ops::loss(y, target, kernels::LossKind::kMse);
  backward(loss);

  std::vector<float> got = y.to_vector<float>();
  got.push_back(static_cast<float>(loss.item()));
  for (const auto& p : model.parameters()) {
    const std::vector<float> grad = p.tensor.grad().to_vector<float>();
    got.insert(got.end(), grad.begin(), grad.end());
  }
  const auto path = std::filesystem::path(ONPA_GOLDEN_DIR) / "dense_train.npy";
  const std::vector<float> want = io::read_npy(path).to_vector<float>();
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-6) << i;
}

TEST(Dense, DropsOnlyInTrainingAndBySeedAndStep) {
  DenseConfig config = small_config();
  config.dropout = 0.5f;
  Dense model(config);
  model.initialize(1);
  NoGrad no_grad;
  const Tensor x = testing::hash_tensor({4, 10}, "x", 1.0f);
  const auto run = [&](unsigned seed, unsigned step) {
    return model.forward(x, seed, step).to_vector<float>();
  };
  const auto evaluated = run(0, 0);
  EXPECT_EQ(evaluated, run(1, 1));
  model.train();
  EXPECT_EQ(run(1, 1), run(1, 1));
  EXPECT_NE(run(1, 1), evaluated);
  EXPECT_NE(run(1, 1), run(1, 2));
  EXPECT_NE(run(1, 1), run(2, 1));
}

TEST(Dense, NamesTheFieldThatIsOutOfRange) {
  const auto message = [](const DenseConfig& config) {
    try {
      Dense model(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message({.inputs = 0}), "dense: inputs is 0, want at least 1");
  EXPECT_EQ(message({.hidden = {4, 0}}), "dense: hidden[1] is 0, want at least 1");
  EXPECT_EQ(message({.outputs = -2}), "dense: outputs is -2, want at least 1");
  EXPECT_EQ(message({.dropout = 1}), "dense: dropout is 1, want at least 0 and under 1");
  EXPECT_NE(message({.dropout = NAN}), "");
  const Dense model(small_config());
  EXPECT_THROW(model.forward(Tensor::zeros({2, 9})), Error);
  EXPECT_THROW(model.forward(Tensor::zeros({10})), Error);
}

}  // namespace
}  // namespace onpa::nn
