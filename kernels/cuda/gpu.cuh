// What every kernel includes first: CUDA itself under nvcc, or the simulator that tests build
// kernels against with a plain C++ compiler. No other file tells the two apart but mma.cuh,
// launch.cuh and kernels/scalar.h, which wrap instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <type_traits>

#define GPU_FN __device__ __forceinline__
// A shared array: GPU_SHARED(rows, float[32][33]). Commas in the type are fine.
#define GPU_SHARED(name, ...) __shared__ alignas(16) std::type_identity_t<__VA_ARGS__> name
// The launch's dynamic shared memory as bytes; divide it with Carver.
#define GPU_DYN_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace onpa::gpu {

/// Hands out 16-byte aligned parts of dynamic shared memory, in order. The launcher passes the sum
/// of carved_bytes() of the parts.
class Carver {
 public:
  GPU_FN explicit Carver(unsigned char* memory) : next_(memory) {}
  template <class T>
  GPU_FN T* take(std::size_t count) {
    T* part = reinterpret_cast<T*>(next_);
    next_ += (count * sizeof(T) + 15) / 16 * 16;
    return part;
  }

 private:
  unsigned char* next_;
};

}  // namespace onpa::gpu

#else
#include "tests/cuda_sim/sim.h"
#endif

namespace onpa::gpu {

/// Bytes that Carver::take<T>(count) uses.
template <class T>
constexpr std::size_t carved_bytes(std::size_t count) {
  return (count * sizeof(T) + 15) / 16 * 16;
}

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xFFFFFFFFu;

}  // namespace onpa::gpu
