// Whole training steps on the GPU (a simulated one where the build has no other) beside the same
// steps on the CPU.
#include "tensor/device_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/step_state.h"
#include "nn/dense.h"
#include "nn/optim.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"
#include "tests/support/random_values.h"

namespace onpa::nn {
namespace {

constexpr int kSteps = 20;
constexpr std::int64_t kBatch = 24, kInputs = 10;
constexpr std::uint64_t kSeed = 3;
constexpr float kLr = 1e-2f;

struct Batch {
  Tensor x, y;  // (kBatch, kInputs), (kBatch, 1)
};
Batch make_batch(int step) {
  const auto seed = static_cast<std::uint64_t>(step);
  const std::vector<float> x = testing::normal_values<float>(kBatch * kInputs, 2 * seed + 1);
  std::vector<float> y;
  for (std::int64_t i = 0; i < kBatch; ++i) {
    const float* row = x.data() + i * kInputs;
    y.push_back(std::tanh(row[0] - 0.5f * row[1]) + 0.25f * row[2] * row[3]);
  }
  return {Tensor::from<float>({kBatch, kInputs}, x), Tensor::from<float>({kBatch, 1}, y)};
}

DenseConfig small_config() {
  DenseConfig config;
  config.inputs = kInputs;
  config.hidden = {33, 16};
  config.activation = kernels::Activation::kGelu;
  config.dropout = 0.1f;
  return config;
}
OptimizerConfig optimizer_config() {
  OptimizerConfig config;
  config.clip_norm = 0.5f;
  return config;
}

struct Curve {
  std::vector<double> loss, norm;
};

Curve train_on_cpu() {
  Dense model(small_config());
  model.initialize(kSeed);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer(optimizer_config(), params);
  Curve curve;
  for (int step = 0; step < kSteps; ++step) {
    const Batch batch = make_batch(step);
    params.clear_grad();
    const Tensor loss = ops::loss(model.forward(batch.x, kSeed, static_cast<std::uint64_t>(step)),
                                  batch.y, kernels::LossKind::kMse);
    backward(loss);
    params.finish_grad();
    curve.loss.push_back(loss.item());
    curve.norm.push_back(optimizer.step(kLr));
  }
  return curve;
}

Curve train_on_gpu(DType dtype) {
  Dense model(small_config());
  model.initialize(kSeed);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer(optimizer_config(), params);
  params.move_to(DeviceKind::kCuda, dtype);
  optimizer.move_to(DeviceKind::kCuda);

  const auto on_gpu = [](const Shape& shape, DType type) {
    return Tensor::empty(shape, type, DeviceKind::kCuda);
  };
  const Tensor x = on_gpu({kBatch, kInputs}, DType::kF32), y = on_gpu({kBatch, 1}, DType::kF32),
               state = on_gpu({static_cast<std::int64_t>(sizeof(kernels::StepState))}, DType::kI32),
               loss = on_gpu({1}, DType::kF32), squares = on_gpu({1}, DType::kF64);
  model.set_step_state(reinterpret_cast<const kernels::StepState*>(state.bytes()));
  DeviceStep step([&] {
    params.clear_grad();
    const Tensor value = ops::loss(model.forward(x.to(dtype), kSeed), y, kernels::LossKind::kMse);
    backward(value);
    params.finish_grad();
    optimizer.queue_step(state, squares);
    loss.copy_from(value.detach());
  });

  Uploader uploader;
  Downloader losses, norms;
  Curve curve;
  for (int i = 0; i < kSteps; ++i) {
    const Batch batch = make_batch(i);
    uploader.upload(x, batch.x);
    uploader.upload(y, batch.y);
    const kernels::StepState now = {.step = static_cast<std::uint64_t>(i),
                                    .optimizer_step = static_cast<std::uint64_t>(i + 1),
                                    .lr = kLr,
                                    .clip_norm = optimizer.clip_norm()};
    uploader.upload(state, &now, sizeof now);
    step.run();
    losses.fetch(loss);
    norms.fetch(squares);
  }
  while (losses.pending() > 0) {
    float value = 0;
    double sum = 0;
    losses.take(&value, sizeof value);
    norms.take(&sum, sizeof sum);
    curve.loss.push_back(value);
    curve.norm.push_back(std::sqrt(sum));
  }
  return curve;
}

void expect_close(const Curve& got, const Curve& want, double bound) {
  ASSERT_EQ(got.loss.size(), want.loss.size());
  EXPECT_LT(want.loss.back(), 0.8 * want.loss.front()) << "the steps learn nothing to compare";
  for (std::size_t i = 0; i < want.loss.size(); ++i) {
    EXPECT_NEAR(got.loss[i], want.loss[i], bound * (1 + want.loss[i])) << "loss of step " << i;
    EXPECT_NEAR(got.norm[i], want.norm[i], 10 * bound * (1 + want.norm[i])) << "norm " << i;
  }
}

// float differs by the order of sums alone; bf16 keeps 8 bits of each activation and weight.
TEST(DeviceStep, DenseInFloatFollowsTheCpu) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  expect_close(train_on_gpu(DType::kF32), train_on_cpu(), 1e-5);
}

TEST(DeviceStep, DenseInBf16FollowsTheCpu) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  expect_close(train_on_gpu(DType::kBF16), train_on_cpu(), 2e-2);
}

}  // namespace
}  // namespace onpa::nn
