// Elementwise kernels over whole buffers: what differs between them is a function of floats.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::gpu {

/// v = from[0 .. count), zeros beyond; one 16-byte load where `whole` says that all are there and
/// that `from` is aligned.
template <class T>
GPU_FN void load_piece(const T* from, bool whole, std::int64_t count, float (&v)[kVec<T>]) {
  if (whole) {
    load16(from, v);
    return;
  }
#pragma unroll
  for (int j = 0; j < kVec<T>; ++j) v[j] = j < count ? static_cast<float>(from[j]) : 0.0f;
}

/// to[0 .. count) = v, rounded.
template <class T>
GPU_FN void store_piece(T* to, bool whole, std::int64_t count, const float (&v)[kVec<T>]) {
  if (whole) {
    store16(to, v);
    return;
  }
#pragma unroll
  for (int j = 0; j < kVec<T>; ++j) {
    if (j < count) to[j] = static_cast<T>(v[j]);
  }
}

/// out[i] (+)= f(in[0][i], ...) for i < n. `out` may be an input: a thread reads what it needs of
/// its elements before it writes them.
template <class T, int kInputs>
struct Map {
  const T* in[kInputs > 0 ? kInputs : 1];
  T* out;
  std::int64_t n;
  bool accumulate;
  bool aligned;  // all pointers to 16 bytes; set by launch_map
};

constexpr int kMapThreads = 256;

template <class T, int kInputs, class F>
__global__ void __launch_bounds__(kMapThreads) map_kernel(Map<T, kInputs> a, F f) {
  constexpr int kV = kVec<T>;
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kMapThreads + threadIdx.x) * kV;
  const std::int64_t count = a.n - i;
  if (count <= 0) return;  // mutation: saves work: loads and stores look at count
  const bool whole = a.aligned && count >= kV;
  float in[kInputs > 0 ? kInputs : 1][kV], out[kV];
#pragma unroll
  for (int k = 0; k < kInputs; ++k) load_piece(a.in[k] + i, whole, count, in[k]);
  if (a.accumulate) load_piece(a.out + i, whole, count, out);
#pragma unroll
  for (int j = 0; j < kV; ++j) {
    float v;
    if constexpr (kInputs == 0) {
      v = f();
    } else if constexpr (kInputs == 1) {
      v = f(in[0][j]);
    } else {
      v = f(in[0][j], in[1][j]);
    }
    out[j] = a.accumulate ? out[j] + v : v;
  }
  store_piece(a.out + i, whole, count, out);
}

/// Starts map_kernel; `f` is a trivially copyable struct with a device operator() of kInputs
/// floats.
template <class T, int kInputs, class F>
void launch_map(kernels::Cuda dev, Map<T, kInputs> a, F f) {
  a.aligned = aligned16(a.out);
  for (const T* in : a.in) a.aligned = a.aligned && aligned16(in);
  launch(map_kernel<T, kInputs, F>, blocks_for(a.n, kMapThreads * kVec<T>), kMapThreads, 0,
         stream_of(dev), a, f);
}

}  // namespace onpa::gpu
