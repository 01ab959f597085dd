#include "tensor/ops/loss.h"

#include <gtest/gtest.h>

#include <string>

#include "tensor/io/safetensors.h"
#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using kernels::LossKind;
using testing::random_normal;

struct NamedKind {
  const char* name;
  LossKind kind;
  const char* target;  // tensor of the golden file
};
constexpr NamedKind kKinds[] = {{"mse", LossKind::kMse, "loss.target"},
                                {"l1", LossKind::kL1, "loss.target"},
                                {"huber", LossKind::kHuber, "loss.target"},
                                {"bce", LossKind::kBceWithLogits, "loss.unit"},
                                {"ce", LossKind::kCrossEntropy, "loss.classes"}};
constexpr float kDelta = 0.75f;

TEST(Loss, AgreesWithPyTorch) {
  const io::SafetensorsFile golden = io::read_safetensors(ONPA_GOLDEN_DIR "/optim.safetensors");
  for (const NamedKind& k : kKinds) {
    const std::string name = std::string("loss.") + k.name;
    for (const DType dtype : {DType::kF64, DType::kF32}) {
      Tensor x = golden.find("loss.x").to(dtype).set_requires_grad();
      const Tensor y = ops::loss(x, golden.find(k.target).to(dtype), k.kind, kDelta);
      backward(y);
      // Double: rounding alone. Float: the inputs' own rounding, 6e-8 of up to 900, and a few more.
      const double bound = dtype == DType::kF64 ? 1e-14 : 1e-6;
      EXPECT_LT(testing::difference(y, golden.find(name)).relative(), bound) << name;
      EXPECT_LT(testing::difference(x.grad(), golden.find(name + ".grad")).relative(), bound)
          << name;
    }
  }
}

TEST(Loss, Gradients) {
  for (const NamedKind& k : kKinds) {
    for (const Shape& shape : {Shape{1, 1}, Shape{5, 7}, Shape{3, 17}, Shape{13}, Shape{2, 3, 4}}) {
      // Positive targets keep |x - t| off the kinks of L1 and Huber at these seeds.
      const Tensor target = random_normal(shape, 22);
      testing::check_gradients(
          [&](const std::vector<Tensor>& in) { return ops::loss(in[0], target, k.kind, kDelta); },
          {random_normal(shape, 21, 2.0)});
    }
  }
}

TEST(Loss, NoGradientForTheTarget) {
  Tensor x = random_normal({2, 3}, 23).set_requires_grad();
  Tensor target = random_normal({2, 3}, 24).set_requires_grad();
  backward(ops::loss(x, target, LossKind::kMse));
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(target.grad().defined());
}

std::string message_of(const Tensor& x, const Tensor& target, LossKind kind, float delta = 1) {
  try {
    ops::loss(x, target, kind, delta);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Loss, BadArguments) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_EQ(message_of(x, Tensor::zeros({3, 2}), LossKind::kMse),
            "loss: target (3, 2), want (2, 3)");
  EXPECT_EQ(message_of(x, Tensor::zeros({2, 3}, DType::kF64), LossKind::kMse),
            "loss: target is f64, want f32");
  EXPECT_EQ(message_of(Tensor::zeros({0, 3}), Tensor::zeros({0, 3}), LossKind::kMse),
            "loss: input (0, 3), want at least one value");
  EXPECT_EQ(message_of(x, x, LossKind::kHuber, 0), "loss: Huber delta 0, want a positive number");
  EXPECT_EQ(message_of(Tensor(), x, LossKind::kMse), "loss: undefined input");
}

}  // namespace
}  // namespace onpa
