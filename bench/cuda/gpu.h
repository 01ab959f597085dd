// What the GPU benchmarks share: device memory, timing with CUDA events, and the GPU's limits,
// measured in the same run.
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernels/device.h"
#include "kernels/scalar.h"

namespace onpa::bench {

/// `count` elements of device memory, zero at first.
template <class T>
class DeviceBuffer;

namespace detail {
void* allocate_zeroed(std::size_t bytes);
void fill_normal(float* to, std::int64_t n, std::uint64_t seed, double deviation);
void fill_normal(bf16* to, std::int64_t n, std::uint64_t seed, double deviation);
}  // namespace detail

template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::int64_t count)
      : data_(
            static_cast<T*>(detail::allocate_zeroed(static_cast<std::size_t>(count) * sizeof(T)))),
        count_(count) {}
  /// Normal draws; float and bf16 only.
  DeviceBuffer(std::int64_t count, std::uint64_t seed, double deviation = 1) : DeviceBuffer(count) {
    detail::fill_normal(data_, count, seed, deviation);
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  T* data() const { return data_; }
  std::int64_t size() const { return count_; }

 private:
  T* data_;
  std::int64_t count_;
};

/// The stream that benchmarks time.
kernels::Cuda timed_stream();

/// Runs the loop of `state`: an iteration is one call of `work`, which queues on timed_stream().
/// Time is what passes on the GPU between events around several calls, divided by their number.
void time_on_gpu(benchmark::State& state, const std::function<void()>& work);

/// The limits of tensor/roofline.h: of copying in GB/s, of bf16 matrix products in TFLOP/s.
double copy_gigabytes_per_second();
double bf16_tflops();

/// After the loop: the rate of an iteration and its share of the limit.
void report_bytes(benchmark::State& state, double bytes);
void report_flops(benchmark::State& state, double flops);

/// BENCHMARK_MAIN() that says which GPU ran and its limits; without a usable GPU it says in one
/// line what to do and returns 84.
int run_benchmarks(int argc, char** argv);

}  // namespace onpa::bench
