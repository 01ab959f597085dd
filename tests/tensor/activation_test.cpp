#include "tensor/ops/activation.h"

#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::difference;
using testing::random_normal;
using Inputs = std::vector<Tensor>;

TEST(Activation, Gradients) {
  const Tensor x = random_normal({3, 7}, 1, 2.0);
  check_gradients([](const Inputs& in) { return ops::gelu(in[0]); }, {x.clone()});
  check_gradients([](const Inputs& in) { return ops::relu(in[0]); }, {x.clone()});
  check_gradients([](const Inputs& in) { return ops::dropout(in[0], 0.4f, {.seed = 5}); },
                  {x.clone()});
}

TEST(Activation, FloatGeluAgreesWithDouble) {
  Tensor x = Tensor::empty({40001}, DType::kF64);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = (i - 20000) * 6e-4;
  x = x.to(DType::kF32).to(DType::kF64);
  // The polynomial's error, 1.4e-7 of Phi, times |x| <= 12.
  EXPECT_LT(difference(ops::gelu(x.to(DType::kF32)), ops::gelu(x)).max_abs, 1.7e-6);
}

TEST(Activation, GeluIsRelativelyAccurateInTheLowerTail) {
  for (const double v : {-2.0, -3.5, -5.0}) {
    const double want = ops::gelu(Tensor::full({1}, v, DType::kF64)).item();
    EXPECT_NEAR(ops::gelu(Tensor::full({1}, v)).item() / want, 1.0, 3e-5) << v;
  }
  EXPECT_EQ(ops::gelu(Tensor::full({1}, -40.0)).item(), 0.0);
  EXPECT_EQ(ops::gelu(Tensor::full({1}, 40.0)).item(), 40.0);
}

TEST(Dropout, KeepsTheExpectedShareAndScale) {
  const Tensor x = Tensor::full({4, 25000}, 1.0);
  const Tensor y = ops::dropout(x, 0.25f, {.seed = 1, .stream = kStreamDropout, .step = 3});
  std::int64_t kept = 0;
  for (const float v : y.span<float>()) {
    EXPECT_TRUE(v == 0.0f || std::abs(v - 4.0f / 3.0f) < 1e-6f);
    kept += v != 0.0f;
  }
  EXPECT_NEAR(static_cast<double>(kept) / 100000, 0.75, 0.006);  // four standard deviations
}

TEST(Dropout, ARowDrawsUnderItsSampleNumber) {
  const Tensor x = Tensor::full({3, 37}, 1.0);
  const Tensor whole = ops::dropout(x, 0.5f, {.seed = 9, .sample = 10});
  const Tensor last = ops::dropout(x.slice(2, 3), 0.5f, {.seed = 9, .sample = 12});
  EXPECT_EQ(whole.slice(2, 3).to_vector<float>(), last.to_vector<float>());
  EXPECT_NE(whole.slice(0, 1).to_vector<float>(), last.to_vector<float>());
  EXPECT_EQ(ops::dropout(x, 0.0f, {}).to_vector<float>(), x.to_vector<float>());
  EXPECT_THROW(ops::dropout(x, 1.0f, {}), Error);
}

}  // namespace
}  // namespace onpa
