#include "kernels/convert.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;

// Each thread has kPerThread elements, a block's width apart: neighbours read neighbours.
template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* y, float value, std::int64_t n) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kPerThread + threadIdx.x;
  for (int i = 0; i < kPerThread; ++i) {
    const std::int64_t at = first + i * kThreads;
    if (at < n) y[at] = static_cast<T>(value);
  }
}

template <class From, class To>
__global__ void __launch_bounds__(kThreads) convert_kernel(const From* x, To* y, std::int64_t n) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kPerThread + threadIdx.x;
  for (int i = 0; i < kPerThread; ++i) {
    const std::int64_t at = first + i * kThreads;
    if (at < n) y[at] = static_cast<To>(static_cast<float>(x[at]));
  }
}

}  // namespace

template <class T>
void fill(Cuda dev, const Fill<T>& a) {
  gpu::launch(fill_kernel<T>, dim3(gpu::blocks_for(a.n, kThreads * kPerThread)), dim3(kThreads), 0,
              gpu::stream_of(dev), a.y, a.value, a.n);
}

template <class From, class To>
void convert(Cuda dev, const Convert<From, To>& a) {
  gpu::launch(convert_kernel<From, To>, dim3(gpu::blocks_for(a.n, kThreads * kPerThread)),
              dim3(kThreads), 0, gpu::stream_of(dev), a.x, a.y, a.n);
}

template void fill<float>(Cuda, const Fill<float>&);
template void fill<bf16>(Cuda, const Fill<bf16>&);
template void convert<float, float>(Cuda, const Convert<float, float>&);
template void convert<float, bf16>(Cuda, const Convert<float, bf16>&);
template void convert<bf16, float>(Cuda, const Convert<bf16, float>&);
template void convert<bf16, bf16>(Cuda, const Convert<bf16, bf16>&);

}  // namespace onpa::kernels
