// PaSST trained with recomputation: the bits of every gradient stay, memory falls.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "nn/optim.h"
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
constexpr int kSteps = 3;  // on the GPU: run, captured, replayed
const Patchout kPatchout{.time = 3, .freq = 1, .unstructured = 4};
const std::vector<Recompute> kLevels = {Recompute::kNormGelu, Recompute::kMlp, Recompute::kBlock};

PasstConfig tiny_config() {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.width = 16;
  config.heads = 2;
  config.mlp = 24;
  config.depth = 3;
  return config;
}

Tensor clips() {
  return testing::random_normal({2, 32, 58}, 3, 1, DType::kF32);
}
Tensor targets() {
  return Tensor::from<float>({2, 1}, std::vector<float>{1, -1});
}

struct Results {
  std::vector<double> loss;
  std::vector<std::vector<float>> grad, parameters;  // after each step
  bool operator==(const Results&) const = default;
};

// Steps of two passes each, whose gradients are added.
Results train_on_cpu(Recompute level) {
  Passt model(tiny_config());
  model.initialize(kSeed);
  model.train();
  model.set_recompute(level);
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  Results results;
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    params.clear_grad();
    for (std::uint64_t pass = 0; pass < 2; ++pass) {
      const Tensor logits = model.forward(clips(), kPatchout, kSeed, 2 * step + pass).logits;
      const Tensor loss = ops::loss(logits, targets(), kernels::LossKind::kMse);
      results.loss.push_back(loss.item());
      backward(loss);
    }
    params.finish_grad();
    results.grad.push_back(params.grad().to_vector<float>());
    optimizer.step(1e-2f);
    results.parameters.push_back(params.data().to_vector<float>());
  }
  return results;
}

TEST(Recompute, PasstOnTheCpuKeepsItsBits) {
  const Results want = train_on_cpu(Recompute::kNone);
  for (const Recompute level : kLevels) {
    EXPECT_TRUE(train_on_cpu(level) == want) << recompute_names()[static_cast<std::size_t>(level)];
  }
  EXPECT_NE(want.loss[0], want.loss[2]) << "the steps do not differ";
}

Results train_on_gpu(DType dtype, Recompute level) {
  Passt model(tiny_config());
  model.initialize(kSeed);
  model.train();
  model.set_recompute(level);
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  params.move_to(DeviceKind::kCuda, dtype);
  optimizer.move_to(DeviceKind::kCuda);
  const auto on_gpu = [](const Shape& shape, DType type) {
    return Tensor::empty(shape, type, DeviceKind::kCuda);
  };
  const Tensor mel = clips().to(DeviceKind::kCuda).to(dtype),
               target = targets().to(DeviceKind::kCuda),
               state = on_gpu({static_cast<std::int64_t>(sizeof(kernels::StepState))}, DType::kI32),
               out = on_gpu({1}, DType::kF32), squares = on_gpu({1}, DType::kF64);
  model.set_step_state(reinterpret_cast<const kernels::StepState*>(state.bytes()));
  DeviceStep step([&] {
    params.clear_grad();
    const Tensor loss =
        ops::loss(model.forward(mel, kPatchout, kSeed).logits, target, kernels::LossKind::kMse);
    backward(loss);
    params.finish_grad();
    optimizer.queue_step(state, squares);
    out.copy_from(loss.detach());
  });
  Uploader uploader;
  Results results;
  const auto read = [](const Tensor& tensor) {
    return tensor.to(DType::kF32).to(DeviceKind::kCpu).to_vector<float>();
  };
  for (std::uint64_t i = 0; i < kSteps; ++i) {
    const kernels::StepState now = {.step = i, .optimizer_step = i + 1, .lr = 1e-2f};
    uploader.upload(state, &now, sizeof now);
    step.run();
    results.loss.push_back(out.item());
    results.grad.push_back(read(params.grad()));
    results.parameters.push_back(read(params.data()));
  }
  return results;
}

void expect_bits_stay_on_gpu(DType dtype) {
  const Results want = train_on_gpu(dtype, Recompute::kNone);
  for (const Recompute level : kLevels) {
    EXPECT_TRUE(train_on_gpu(dtype, level) == want)
        << recompute_names()[static_cast<std::size_t>(level)];
  }
  EXPECT_NE(want.loss[0], want.loss[2]) << "the steps do not differ";
}

TEST(Recompute, PasstOnTheGpuInFloatKeepsItsBits) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  expect_bits_stay_on_gpu(DType::kF32);
}

TEST(Recompute, PasstOnTheGpuInBf16KeepsItsBits) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  expect_bits_stay_on_gpu(DType::kBF16);
}

// Sizes that the allocator need not round up.
constexpr std::int64_t kBatch = 16, kFrames = 33, kTokens = 32;

// What is in use after the forward pass and at most in the step, in floats a token.
std::pair<double, double> memory_of_step(std::int64_t depth, Recompute level) {
  PasstConfig config = PasstConfig::preset("passt-xs");
  config.depth = depth;
  Passt model(config);
  model.initialize(kSeed);
  model.train();
  model.set_recompute(level);
  const FlatParams params(model.parameter_slots());
  const Tensor mel = testing::random_normal({kBatch, config.mels, kFrames}, 3, 1, DType::kF32);
  const Tensor target = Tensor::zeros({kBatch, 1});
  const std::size_t before = memory_stats().live_bytes;
  reset_peak_memory();
  const Tensor loss = ops::loss(model.forward(mel).logits, target, kernels::LossKind::kMse);
  const std::size_t kept = memory_stats().live_bytes - before;
  backward(loss);
  const auto floats = [](std::size_t bytes) {
    return static_cast<double>(bytes) / (kBatch * kTokens * sizeof(float));
  };
  return {floats(kept), floats(memory_stats().peak_bytes - before)};
}

TEST(Recompute, EachLevelKeepsWhatItSays) {
  const PasstConfig config = PasstConfig::preset("passt-xs");
  ASSERT_EQ(config.grid_f() * config.grid_t(kFrames) + 2, kTokens);
  const auto width = static_cast<double>(config.width), heads = static_cast<double>(config.heads);
  // Two statistics of each of two norms, one of each head's attention.
  const std::map<Recompute, double> want = {{Recompute::kNone, 16 * width + 4 + heads},
                                            {Recompute::kNormGelu, 10 * width + heads},
                                            {Recompute::kMlp, 6 * width + heads},
                                            {Recompute::kBlock, width}};
  double last_peak = std::numeric_limits<double>::infinity();
  for (const auto& [level, floats] : want) {
    const auto [kept, peak] = memory_of_step(13, level);
    const auto [fewer_kept, fewer_peak] = memory_of_step(12, level);
    const std::string& name = recompute_names()[static_cast<std::size_t>(level)];
    EXPECT_EQ(kept - fewer_kept, floats) << name;
    EXPECT_EQ(peak - fewer_peak, floats) << name;
    EXPECT_LT(peak, 0.8 * last_peak) << name;
    last_peak = peak;
  }
}

TEST(Recompute, NamesAreChecked) {
  for (std::size_t i = 0; i < recompute_names().size(); ++i) {
    EXPECT_EQ(static_cast<std::size_t>(recompute_of(recompute_names()[i])), i);
  }
  EXPECT_THROW(recompute_of("all"), Error);
}

}  // namespace
}  // namespace onpa::nn
