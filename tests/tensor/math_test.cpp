#include "tensor/ops/math.h"

#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;
using Inputs = std::vector<Tensor>;

TEST(Math, Gradients) {
  const Tensor a = random_normal({3, 5}, 1), b = random_normal({3, 5}, 2);
  const auto both = [&](Tensor (*op)(const Tensor&, const Tensor&)) {
    check_gradients([&](const Inputs& in) { return op(in[0], in[1]); }, {a.clone(), b.clone()});
    check_gradients([&](const Inputs& in) { return op(in[0], in[0]); }, {a.clone()});
  };
  both(ops::add);
  both(ops::sub);
  both(ops::mul);
  check_gradients([](const Inputs& in) { return ops::scale(in[0], -2.5); }, {a.clone()});
  check_gradients([](const Inputs& in) { return ops::sum(in[0]); }, {a.clone()});
  check_gradients([](const Inputs& in) { return ops::mean(in[0]); }, {a.clone()});
  check_gradients([](const Inputs& in) { return ops::reshape(in[0], {5, 3}); }, {a.clone()});
}

TEST(Math, ShapesMustAgree) {
  EXPECT_THROW(ops::add(Tensor::zeros({2}), Tensor::zeros({3})), Error);
  EXPECT_THROW(ops::mul(Tensor::zeros({2}), Tensor::zeros({2}, DType::kF64)), Error);
  EXPECT_THROW(ops::mean(Tensor::zeros({0})), Error);
}

TEST(Math, SumAccumulatesInDouble) {
  const Tensor x = Tensor::full({100003}, 0.1);
  // Half an ulp of the float result is all that may be lost.
  EXPECT_NEAR(ops::sum(x).item(), 100003 * static_cast<double>(0.1f), 4e-4);
  EXPECT_EQ(ops::sum(Tensor::zeros({0})).item(), 0.0);
}

}  // namespace
}  // namespace onpa
