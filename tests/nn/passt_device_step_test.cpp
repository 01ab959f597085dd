// Training steps of PaSST on the GPU (a simulated one where the build has no other), replayed with
// patchout drawn anew each time, beside the same steps on the CPU.
#include <gtest/gtest.h>

#include <vector>

#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/device_step.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"
#include "tests/support/gradcheck.h"

namespace onpa::nn {
namespace {

constexpr std::uint64_t kSeed = 5;
constexpr int kSteps = 4;  // run, captured, replayed twice
const Patchout kPatchout{.time = 3, .freq = 1, .unstructured = 4};

PasstConfig tiny_config() {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.width = 16;
  config.heads = 2;
  config.mlp = 24;
  return config;
}

struct Results {
  std::vector<float> loss;
  std::vector<double> time_grad;  // of the last step
};

Results run(DeviceKind device) {
  Passt model(tiny_config());
  model.initialize(kSeed);
  model.train();
  FlatParams params(model.parameter_slots());
  if (device == DeviceKind::kCuda) params.move_to(device, DType::kF32);
  const Tensor mel = testing::random_normal({2, 32, 58}, 3, 1, DType::kF32).to(device);
  const Tensor target = Tensor::from<float>({2, 1}, std::vector<float>{1, -1}).to(device);
  const Tensor state =
      Tensor::empty({static_cast<std::int64_t>(sizeof(kernels::StepState))}, DType::kI32, device);
  const Tensor out = Tensor::empty({1}, DType::kF32, device);
  model.set_step_state(reinterpret_cast<const kernels::StepState*>(state.bytes()));
  const auto body = [&] {
    params.clear_grad();
    const Tensor loss =
        ops::loss(model.forward(mel, kPatchout, kSeed).logits, target, kernels::LossKind::kMse);
    backward(loss);
    params.finish_grad();
    out.copy_from(loss.detach());
  };

  Results results;
  const auto read = [](const Tensor& tensor) { return tensor.to(DeviceKind::kCpu); };
  if (device == DeviceKind::kCuda) {
    DeviceStep step(body);
    Uploader uploader;
    for (int i = 0; i < kSteps; ++i) {
      const kernels::StepState now = {.step = static_cast<std::uint64_t>(i)};
      uploader.upload(state, &now, sizeof now);
      step.run();
      results.loss.push_back(static_cast<float>(out.item()));
    }
  } else {
    for (int i = 0; i < kSteps; ++i) {
      *reinterpret_cast<kernels::StepState*>(state.bytes()) = {.step =
                                                                   static_cast<std::uint64_t>(i)};
      body();
      results.loss.push_back(static_cast<float>(out.item()));
    }
  }
  for (const NamedParameter& p : model.parameters()) {
    if (p.name == "time_new_pos_embed") {
      results.time_grad = read(p.tensor.grad()).to(DType::kF64).to_vector<double>();
    }
  }
  return results;
}

// The orders of sums differ, nothing else: were a patch or an offset another, losses would differ
// in the second digit and gradients would stand in other columns.
TEST(DeviceStep, PasstWithPatchoutFollowsTheCpu) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  const Results want = run(DeviceKind::kCpu), got = run(DeviceKind::kCuda);
  double spread = 0;
  for (int i = 0; i < kSteps; ++i) {
    EXPECT_NEAR(got.loss[i], want.loss[i], 1e-5 * (1 + want.loss[i])) << "step " << i;
    spread = std::max(spread, std::abs(static_cast<double>(want.loss[i] - want.loss[0])));
  }
  EXPECT_GT(spread, 1e-3) << "the steps do not differ";
  ASSERT_EQ(got.time_grad.size(), want.time_grad.size());
  for (std::size_t i = 0; i < want.time_grad.size(); ++i) {
    EXPECT_NEAR(got.time_grad[i], want.time_grad[i], 1e-5) << i;
    EXPECT_EQ(got.time_grad[i] == 0, want.time_grad[i] == 0) << i;
  }
}

}  // namespace
}  // namespace onpa::nn
