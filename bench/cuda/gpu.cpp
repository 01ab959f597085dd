#include "bench/cuda/gpu.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/philox.h"
#include "tensor/device.h"
#include "tensor/roofline.h"

namespace onpa::bench {
namespace {

constexpr double kGiga = 1e9;

cudaStream_t stream() {
  return static_cast<cudaStream_t>(timed_stream().stream);
}

/// Milliseconds between two points of the timed stream.
class Stopwatch {
 public:
  Stopwatch() {
    ONPA_CUDA_CHECK(cudaEventCreate(&start_));
    ONPA_CUDA_CHECK(cudaEventCreate(&stop_));
  }
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  void start() { ONPA_CUDA_CHECK(cudaEventRecord(start_, stream())); }
  double stop_ms() {
    ONPA_CUDA_CHECK(cudaEventRecord(stop_, stream()));
    ONPA_CUDA_CHECK(cudaEventSynchronize(stop_));
    float ms = 0;
    ONPA_CUDA_CHECK(cudaEventElapsedTime(&ms, start_, stop_));
    return static_cast<double>(ms);
  }

 private:
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

template <class T>
void upload_normal(T* to, std::int64_t n, std::uint64_t seed, double deviation) {
  // A short sequence repeated: what matters to a benchmark is that no value is special.
  constexpr std::int64_t kPeriod = 1'000'003;
  Philox rng({.seed = seed, .stream = kStreamTest});
  std::vector<T> values(static_cast<std::size_t>(std::min(n, kPeriod)));
  for (T& v : values) v = static_cast<T>(static_cast<float>(rng.normal() * deviation));
  for (std::int64_t at = 0; at < n; at += kPeriod) {
    const auto count = static_cast<std::size_t>(std::min(n - at, kPeriod));
    ONPA_CUDA_CHECK(cudaMemcpy(to + at, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  }
}

}  // namespace

namespace detail {

void* allocate_zeroed(std::size_t bytes) {
  void* block = nullptr;
  ONPA_CUDA_CHECK(cudaMalloc(&block, std::max<std::size_t>(bytes, 1)));
  ONPA_CUDA_CHECK(cudaMemset(block, 0, bytes));
  ONPA_CUDA_CHECK(cudaDeviceSynchronize());
  return block;
}

void fill_normal(float* to, std::int64_t n, std::uint64_t seed, double deviation) {
  upload_normal(to, n, seed, deviation);
}
void fill_normal(bf16* to, std::int64_t n, std::uint64_t seed, double deviation) {
  upload_normal(to, n, seed, deviation);
}

}  // namespace detail

kernels::Cuda timed_stream() {
  return current_cuda();
}

void time_on_gpu(benchmark::State& state, const std::function<void()>& work) {
  constexpr int kCalls = 10;
  work();  // loads the kernel
  ONPA_CUDA_CHECK(cudaStreamSynchronize(stream()));
  Stopwatch watch;
  for (auto _ : state) {
    watch.start();
    for (int i = 0; i < kCalls; ++i) work();
    state.SetIterationTime(watch.stop_ms() * 1e-3 / kCalls);
  }
}

double copy_gigabytes_per_second() {
  return measured_roofline(DeviceKind::kCuda, DType::kBF16).gigabytes_per_second;
}

double bf16_tflops() {
  return measured_roofline(DeviceKind::kCuda, DType::kBF16).gflops * 1e-3;
}

void report_bytes(benchmark::State& state, double bytes) {
  using benchmark::Counter;
  const double gigabytes = bytes / kGiga;
  state.counters["GB_per_s"] = Counter(gigabytes, Counter::kIsIterationInvariantRate);
  state.counters["share_of_copy"] =
      Counter(gigabytes / copy_gigabytes_per_second(), Counter::kIsIterationInvariantRate);
}

void report_flops(benchmark::State& state, double flops) {
  using benchmark::Counter;
  const double teraflops = flops * 1e-12;
  state.counters["TFLOPS"] = Counter(teraflops, Counter::kIsIterationInvariantRate);
  state.counters["share_of_bf16_peak"] =
      Counter(teraflops / bf16_tflops(), Counter::kIsIterationInvariantRate);
}

int run_benchmarks(int argc, char** argv) {
  try {
    const CudaDevice device = cuda_device();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
      return static_cast<int>(ExitCode::kUsage);
    }
    benchmark::AddCustomContext("gpu", device.name);
    benchmark::AddCustomContext("multiprocessors", std::to_string(device.multiprocessors));
    benchmark::AddCustomContext("copy_gigabytes_per_second",
                                std::to_string(copy_gigabytes_per_second()));
    benchmark::AddCustomContext("bf16_tflops", std::to_string(bf16_tflops()));
    benchmark::RunSpecifiedBenchmarks();
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return static_cast<int>(e.code());
  }
  return 0;
}

}  // namespace onpa::bench
