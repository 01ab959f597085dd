// Whole training steps and evaluations of the two models, from a batch in memory to updated
// parameters: forward, backward, AdamW. The front end and data loading are not in it.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "bench/roofline.h"
#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"
#include "nn/dense.h"
#include "nn/dense_fused.h"
#include "nn/optim.h"
#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"
#include "tensor/storage.h"

namespace onpa::nn {
namespace {

constexpr float kLearningRate = 1e-5f;
constexpr std::int64_t kHalfMinuteFrames = 3000;

Tensor random_tensor(const Shape& shape) {
  Philox rng({.seed = 1, .stream = kStreamTest});
  Tensor out = Tensor::empty(shape);
  for (float& value : out.span<float>()) value = static_cast<float>(rng.normal());
  return out;
}

// `flop` is what one iteration needs: two per multiply-add of the layers and of attention's two
// products, without what its backward pass works out again.
void report(benchmark::State& state, double flop, std::int64_t samples) {
  bench::report_flops(state, flop, kernels::thread_count());
  state.counters["samples_per_second"] = benchmark::Counter(
      static_cast<double>(samples * state.iterations()), benchmark::Counter::kIsRate);
  state.counters["peak_tensor_mib"] = static_cast<double>(memory_stats().peak_bytes) / (1 << 20);
  state.counters["peak_resident_mib"] = bench::peak_resident_mib();
}

void train_step(FlatParams& params, Optimizer& optimizer, const Tensor& predicted,
                const Tensor& target) {
  params.clear_grad();
  backward(ops::loss(predicted, target, kernels::LossKind::kMse));
  params.finish_grad();
  optimizer.step(kLearningRate);
}

constexpr std::int64_t kBatch = 512, kInputs = 10;

void report_dense(benchmark::State& state, std::int64_t width) {
  // The first layer needs no gradient of its input.
  const double macs =
      static_cast<double>(kBatch * (2 * kInputs * width + 3 * width * width + 3 * width));
  report(state, 2 * macs, kBatch);
}

// As `onpa train dense` takes it: whole steps on rows that stay in memory.
void dense_step(benchmark::State& state) {
  const std::int64_t width = state.range(0), rows = 100 * kBatch;
  Dense model({.inputs = kInputs, .hidden = {width, width}, .outputs = 1});
  model.initialize(1);
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  DenseFusedConfig config;
  config.batch_size = kBatch;
  DenseFused steps(model.config(), config, params, optimizer, random_tensor({rows, kInputs}),
                   random_tensor({rows, 1}));
  release_cached_memory();
  reset_peak_memory();
  const std::vector<float> rate = {kLearningRate};
  for (auto _ : state) {
    steps.queue(rate);
    benchmark::DoNotOptimize(steps.take().losses.front());
  }
  report_dense(state, width);
}
BENCHMARK(dense_step)->ArgName("width")->Arg(64)->Arg(256)->UseRealTime();

void dense_autograd_step(benchmark::State& state) {
  const std::int64_t width = state.range(0);
  Dense model({.inputs = kInputs, .hidden = {width, width}, .outputs = 1});
  model.initialize(1);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  const Tensor x = random_tensor({kBatch, kInputs}), target = random_tensor({kBatch, 1});
  release_cached_memory();
  reset_peak_memory();
  for (auto _ : state) train_step(params, optimizer, model.forward(x), target);
  report_dense(state, width);
}
BENCHMARK(dense_autograd_step)->ArgName("width")->Arg(64)->Arg(256)->UseRealTime();

// Multiply-adds of one forward pass over N tokens, of which `kept` are patches. The last block
// works out only two tokens behind its keys and values.
struct PasstMacs {
  double embed, rest;
};
PasstMacs forward_macs(const PasstConfig& c, std::int64_t kept) {
  const double n = static_cast<double>(kept + 2), d = static_cast<double>(c.width);
  const double mlp = 2 * d * static_cast<double>(c.mlp);
  const double full = n * (4 * d * d + mlp) + 2 * n * n * d;
  const double last = n * 3 * d * d + 2 * (d * d + mlp) + 2 * 2 * n * d;
  const double embed = static_cast<double>(kept * c.patch_f * c.patch_t) * d;
  return {embed,
          static_cast<double>(c.depth - 1) * full + last + d * static_cast<double>(c.outputs)};
}

PasstConfig half_minute_config() {
  PasstConfig config = PasstConfig::preset("passt-s");
  config.table_t = 300;
  config.outputs = 1;
  config.head_dist = false;
  return config;
}

// One 30 s clip: 12 x 299 patches, of which 8 x 179 are kept.
void passt_train_half_minute(benchmark::State& state) {
  const Patchout patchout{.time = 120, .freq = 4};
  Passt model(half_minute_config());
  model.initialize(1);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer({}, params);
  const Tensor mel = random_tensor({1, 128, kHalfMinuteFrames}), target = random_tensor({1, 1});
  release_cached_memory();
  reset_peak_memory();
  std::uint64_t step = 0;
  // The first step asks the system for all memory of the later ones.
  train_step(params, optimizer, model.forward(mel, patchout, 1, step++).logits, target);
  for (auto _ : state) {
    train_step(params, optimizer, model.forward(mel, patchout, 1, step++).logits, target);
  }
  const PasstMacs macs = forward_macs(model.config(), 8 * 179);
  report(state, 2 * (2 * macs.embed + 3 * macs.rest), 1);
}
BENCHMARK(passt_train_half_minute)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

void passt_evaluate_half_minute(benchmark::State& state) {
  Passt model(half_minute_config());
  model.initialize(1);
  const Tensor mel = random_tensor({1, 128, kHalfMinuteFrames});
  release_cached_memory();
  reset_peak_memory();
  NoGrad no_grad;
  for (auto _ : state) benchmark::DoNotOptimize(model.forward(mel).logits.item());
  const PasstMacs macs = forward_macs(model.config(), 12 * 299);
  report(state, 2 * (macs.embed + macs.rest), 1);
}
BENCHMARK(passt_evaluate_half_minute)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

}  // namespace
}  // namespace onpa::nn

BENCHMARK_MAIN();
