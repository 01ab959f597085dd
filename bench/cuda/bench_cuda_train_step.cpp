// Whole training steps on the GPU in bf16 with float master weights, replayed as one CUDA graph:
// upload of the step's state, forward, backward, clipping and AdamW. The batch lies on the GPU.
#include <cstdint>

#include "bench/cuda/gpu.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "kernels/step_state.h"
#include "nn/dense.h"
#include "nn/optim.h"
#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/device_step.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"

namespace onpa::bench {
namespace {

constexpr std::uint64_t kSeed = 1;

Tensor on_gpu(const Shape& shape, DType type) {
  return Tensor::empty(shape, type, DeviceKind::kCuda);
}
Tensor normal_on_gpu(const Shape& shape) {
  Tensor out = on_gpu(shape, DType::kF32);
  detail::fill_normal(out.data<float>(), out.numel(), kSeed, 1);
  return out;
}

// `predict(x)` is the model's output for an input in bf16.
template <class Model, class Predict>
void time_steps(benchmark::State& state, Model& model, const Tensor& x, const Predict& predict) {
  model.initialize(kSeed);
  model.train();
  FlatParams params(model.parameter_slots());
  nn::OptimizerConfig config;
  config.clip_norm = 1;
  nn::Optimizer optimizer(config, params);
  params.move_to(DeviceKind::kCuda, DType::kBF16);
  optimizer.move_to(DeviceKind::kCuda);

  const std::int64_t batch = x.shape()[0];
  const Tensor target = normal_on_gpu({batch, 1}), squares = on_gpu({1}, DType::kF64);
  const Tensor now = on_gpu(
      {static_cast<std::int64_t>(sizeof(kernels::StepState) / sizeof(std::int32_t))}, DType::kI32);
  model.set_step_state(reinterpret_cast<const kernels::StepState*>(now.bytes()));
  DeviceStep step([&] {
    params.clear_grad();
    backward(ops::loss(predict(x.to(DType::kBF16)), target, kernels::LossKind::kMse));
    params.finish_grad();
    optimizer.queue_step(now, squares);
  });
  Uploader uploader;
  std::uint64_t count = 0;
  const auto run = [&] {
    const kernels::StepState host = {.step = count,
                                     .optimizer_step = count + 1,
                                     .lr = 1e-5f,
                                     .clip_norm = optimizer.clip_norm()};
    uploader.upload(now, &host, sizeof host);
    step.run();
    ++count;
  };
  run();
  run();  // captures
  time_on_gpu(state, run);
  state.counters["samples_per_second"] =
      benchmark::Counter(static_cast<double>(batch), benchmark::Counter::kIsIterationInvariantRate);
}

// An epoch of 1,000,000 rows is 1,954 of these.
void train_dense(benchmark::State& state) {
  const std::int64_t width = state.range(0), batch = 512, inputs = 10;
  nn::Dense model({.inputs = inputs, .hidden = {width, width}, .outputs = 1});
  time_steps(state, model, normal_on_gpu({batch, inputs}),
             [&](const Tensor& x) { return model.forward(x, kSeed); });
}
BENCHMARK(train_dense)
    ->ArgName("width")
    ->Arg(64)
    ->Arg(256)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

// 30 s clips, 2,153 of 12 x 299 patches kept: N = 2,155.
void train_passt(benchmark::State& state) {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-s");
  config.table_t = 300;
  config.outputs = 1;
  config.head_dist = false;
  const nn::Patchout patchout{.unstructured = 12 * 299 - 2153};
  nn::Passt model(config);
  constexpr std::int64_t kFrames = 3000;
  try {
    time_steps(state, model, normal_on_gpu({state.range(0), config.mels, kFrames}),
               [&](const Tensor& x) { return model.forward(x, patchout, kSeed).logits; });
  } catch (const Error& e) {
    state.SkipWithError(e.what());  // such a batch may not fit the GPU's memory
  }
}
BENCHMARK(train_passt)
    ->ArgName("batch")
    ->Arg(8)
    ->Arg(48)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

// With the fastest of cuBLASLt's candidates by timing, as train.gemm_tuning has it.
void train_passt_gemm_timed(benchmark::State& state) {
  kernels::set_gemm_tuning(true);
  train_passt(state);
  kernels::set_gemm_tuning(false);
}
BENCHMARK(train_passt_gemm_timed)
    ->ArgName("batch")
    ->Arg(8)
    ->Arg(48)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
