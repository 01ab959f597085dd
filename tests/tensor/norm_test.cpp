#include "tensor/ops/norm.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;

TEST(LayerNormOp, Gradients) {
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 4, 17}, Shape{1, 8}, Shape{7}, Shape{40, 3}}) {
    SCOPED_TRACE(::testing::Message() << shape);
    const Shape parameter{shape[-1]};
    check_gradients(
        [](const std::vector<Tensor>& in) { return ops::layer_norm(in[0], in[1], in[2], 1e-5f); },
        {random_normal(shape, 1), random_normal(parameter, 2), random_normal(parameter, 3)});
  }
}

TEST(AddLayerNormOp, Gradients) {
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 4, 17}, Shape{7}}) {
    SCOPED_TRACE(::testing::Message() << shape);
    const Shape parameter{shape[-1]};
    // Both results are used, as in a residual stream.
    check_gradients(
        [](const std::vector<Tensor>& in) {
          const auto [sum, y] = ops::add_layer_norm(in[0], in[1], in[2], in[3], 1e-5f);
          return ops::mul(sum, y);
        },
        {random_normal(shape, 1), random_normal(shape, 4), random_normal(parameter, 2),
         random_normal(parameter, 3)});
  }
}

TEST(AddLayerNormOp, EqualsTwoPasses) {
  const Tensor x = random_normal({6, 50}, 1, 1, DType::kF32),
               residual = random_normal({6, 50}, 2, 1, DType::kF32),
               weight = random_normal({50}, 3, 1, DType::kF32),
               bias = random_normal({50}, 4, 1, DType::kF32);
  const auto [sum, y] = ops::add_layer_norm(x, residual, weight, bias);
  const Tensor apart = ops::add(x, residual);
  EXPECT_EQ(sum.to_vector<float>(), apart.to_vector<float>());
  EXPECT_EQ(y.to_vector<float>(), ops::layer_norm(apart, weight, bias).to_vector<float>());
  EXPECT_THROW(ops::add_layer_norm(x, Tensor::zeros({6, 49}), weight, bias), Error);
}

TEST(LayerNormOp, RowsAreNormalised) {
  const Tensor y = ops::layer_norm(random_normal({6, 50}, 1, 3), Tensor::full({50}, 1, DType::kF64),
                                   Tensor::zeros({50}, DType::kF64));
  for (int r = 0; r < 6; ++r) {
    double sum = 0, squares = 0;
    for (int c = 0; c < 50; ++c) {
      const double v = y.span<double>()[r * 50 + c];
      sum += v;
      squares += v * v;
    }
    EXPECT_NEAR(sum, 0, 1e-12);
    EXPECT_NEAR(squares / 50, 1, 1e-4);  // eps takes a little
  }
}

TEST(LayerNormOp, OnlyWantedGradientsAreMade) {
  Tensor x = random_normal({3, 4}, 1), weight = random_normal({4}, 2), bias = random_normal({4}, 3);
  bias.set_requires_grad();
  backward(ops::sum(ops::layer_norm(x, weight, bias)));
  EXPECT_FALSE(x.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
  EXPECT_EQ(bias.grad().to_vector<double>(), std::vector<double>(4, 3.0));
}

TEST(LayerNormOp, MismatchNamesTheTensorAndBothShapes) {
  const Tensor x = Tensor::zeros({2, 3, 8}), good = Tensor::zeros({8}), bad = Tensor::zeros({9});
  try {
    ops::layer_norm(x, bad, good);
    FAIL() << "no error";
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("layer_norm: weight"), std::string::npos) << what;
    EXPECT_NE(what.find("(9)"), std::string::npos) << what;
    EXPECT_NE(what.find("(8)"), std::string::npos) << what;
  }
  EXPECT_THROW(ops::layer_norm(x, good, bad), Error);
  EXPECT_THROW(ops::layer_norm(x, good, Tensor::zeros({8}, DType::kF64)), Error);
  EXPECT_THROW(ops::layer_norm(Tensor::zeros({4, 0}), Tensor::zeros({0}), Tensor::zeros({0})),
               Error);
  EXPECT_THROW(ops::layer_norm(x, good, good, 0.0f), Error);
  EXPECT_THROW(ops::layer_norm(x, {}, good), Error);
}

}  // namespace
}  // namespace onpa
