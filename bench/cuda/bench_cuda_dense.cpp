// Fused training steps of a dense network (10-W-W-1, batch 512, 1,000,000 rows on the GPU, shuffled
// there), many to a graph: time of a step and of an epoch.
#include <functional>

#include "bench/cuda/gpu.h"
#include "kernels/cuda/check.h"
#include "kernels/dense.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kRows = 1'000'000, kBatch = 512, kInputs = 10;
constexpr int kStepsPerGraph = 64;  // even: the two states change places

cudaStream_t stream() {
  return static_cast<cudaStream_t>(timed_stream().stream);
}

/// What `work` queues, as one graph.
cudaGraphExec_t captured(const std::function<void()>& work) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t out = nullptr;
  ONPA_CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  work();
  ONPA_CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
  ONPA_CUDA_CHECK(cudaGraphInstantiate(&out, graph, 0));
  ONPA_CUDA_CHECK(cudaGraphDestroy(graph));
  return out;
}

// Weights one after the other, each with its bias behind it. Returns their number.
std::int64_t lay_out(kernels::DenseStep& a, std::int64_t width) {
  std::int64_t at = 0, inputs = kInputs;
  a.layers = 3;
  for (int i = 0; i < a.layers; ++i) {
    const std::int64_t outputs = i + 1 < a.layers ? width : 1;
    a.layer[i] = {
        .inputs = inputs, .outputs = outputs, .weight = at, .bias = at + inputs * outputs};
    at += (inputs + 1) * outputs;
    inputs = outputs;
  }
  return at;
}

void dense_step(benchmark::State& state) {
  kernels::DenseStep a{};
  const std::int64_t count = lay_out(a, state.range(0));
  const DeviceBuffer<float> x(kRows * kInputs, 1), y(kRows, 2, 0.1), param(count, 3, 0.05),
      m(count), v(count), lr(1), loss(1);
  const DeviceBuffer<kernels::DenseState> states(2);
  const kernels::DenseState start;
  ONPA_CUDA_CHECK(cudaMemcpy(states.data(), &start, sizeof start, cudaMemcpyHostToDevice));
  detail::fill_normal(lr.data(), 1, 4, 1e-5);
  a.x = x.data(), a.y = y.data(), a.rows = kRows, a.batch = kBatch;
  a.activation = kernels::Activation::kRelu;
  a.loss_kind = kernels::LossKind::kMse;
  a.seed = 1, a.shuffle = true;
  a.param = param.data(), a.m = m.data(), a.v = v.data();
  a.beta1 = 0.9, a.beta2 = 0.999, a.eps = 1e-8f;
  a.lr = lr.data(), a.loss = loss.data();
  const DeviceBuffer<char> workspace(
      static_cast<std::int64_t>(kernels::dense_step_workspace_bytes(timed_stream(), a)));
  a.workspace = workspace.data();
  kernels::dense_pack(timed_stream(), a);
  const auto step = [&](int i) {
    a.state = states.data() + i % 2;
    a.next_state = states.data() + 1 - i % 2;
    kernels::dense_step(timed_stream(), a);
  };
  step(0), step(1);  // whatever a first launch does it may not do while captured
  const cudaGraphExec_t graph = captured([&] {
    for (int i = 0; i < kStepsPerGraph; ++i) step(i);
  });
  time_on_gpu(state, [&] { ONPA_CUDA_CHECK(cudaGraphLaunch(graph, stream())); });
  ONPA_CUDA_CHECK(cudaGraphExecDestroy(graph));

  constexpr double kStepsPerEpoch = (kRows + kBatch - 1) / kBatch;
  using benchmark::Counter;
  state.counters["step_s"] =
      Counter(kStepsPerGraph, Counter::kIsIterationInvariantRate | Counter::kInvert);
  state.counters["epoch_s"] = Counter(kStepsPerGraph / kStepsPerEpoch,
                                      Counter::kIsIterationInvariantRate | Counter::kInvert);
}
BENCHMARK(dense_step)
    ->ArgName("width")
    ->Arg(64)
    ->Arg(256)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
