#include "tensor/ops/linear.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using kernels::Activation;
using testing::check_gradients;
using testing::difference;
using testing::random_normal;
using Inputs = std::vector<Tensor>;

TEST(Linear, GradientsOfEveryFormAndOperand) {
  const Tensor x = random_normal({2, 3, 5}, 1), w = random_normal({7, 5}, 2),
               b = random_normal({7}, 3), r = random_normal({2, 3, 7}, 4);
  for (const Activation act : {Activation::kNone, Activation::kGelu, Activation::kRelu}) {
    check_gradients([&](const Inputs& in) { return ops::linear(in[0], in[1], in[2], act, in[3]); },
                    {x.clone(), w.clone(), b.clone(), r.clone()});
    check_gradients([&](const Inputs& in) { return ops::linear(in[0], in[1], {}, act); },
                    {x.clone(), w.clone()});
  }
}

TEST(Linear, ResidualAloneGetsItsGradient) {
  const Tensor x = random_normal({3, 4}, 1), w = random_normal({4, 4}, 2);
  check_gradients([&](const Inputs& in) { return ops::linear(x, w, {}, Activation::kGelu, in[0]); },
                  {random_normal({3, 4}, 3)});
}

TEST(Linear, ResidualThatIsTheInput) {
  const Tensor b = random_normal({4}, 5);
  check_gradients(
      [&](const Inputs& in) { return ops::linear(in[0], in[1], b, Activation::kNone, in[0]); },
      {random_normal({3, 4}, 3), random_normal({4, 4}, 2)});
}

TEST(Linear, FloatAgreesWithDouble) {
  for (const auto& [m, n, k] :
       {std::array<std::int64_t, 3>{1, 1, 1}, {17, 13, 7}, {131, 97, 64}, {400, 800, 33}}) {
    const Tensor x = random_normal({m, k}, 1), w = random_normal({n, k}, 2),
                 b = random_normal({n}, 3);
    for (const Activation act : {Activation::kNone, Activation::kGelu, Activation::kRelu}) {
      const Tensor want = ops::linear(x, w, b, act);
      const Tensor got = ops::linear(x.to(DType::kF32), w.to(DType::kF32), b.to(DType::kF32), act);
      // k <= 64 roundings of at most half an ulp each, relative to the largest output.
      EXPECT_LT(difference(got, want).relative(), 1e-6) << m << ' ' << n << ' ' << k;
    }
  }
}

TEST(Linear, EmptyBatch) {
  const Tensor w = random_normal({3, 5}, 2);
  EXPECT_EQ(ops::linear(Tensor::zeros({0, 5}, DType::kF64), w).shape(), (Shape{0, 3}));
}

TEST(Linear, MismatchNamesTheOperand) {
  const Tensor x = Tensor::zeros({2, 5}), w = Tensor::zeros({3, 4});
  try {
    ops::linear(x, w);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "linear: weight has shape (3, 4), want (3, 5) for x of shape (2, 5)");
  }
}

TEST(Matmul, MismatchNamesBothShapes) {
  EXPECT_EQ(ops::matmul(Tensor::full({2, 3}, 1), Tensor::full({3, 1}, 2)).to_vector<float>(),
            (std::vector<float>{6, 6}));
  try {
    ops::matmul(Tensor::zeros({2, 3}), Tensor::zeros({2, 3}));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("(2, 3) f32 times (2, 3) f32"), std::string::npos)
        << e.what();
  }
}

TEST(Matmul, Gradients) {
  check_gradients([](const Inputs& in) { return ops::matmul(in[0], in[1]); },
                  {random_normal({3, 5}, 1), random_normal({5, 7}, 2)});
}

}  // namespace
}  // namespace onpa
