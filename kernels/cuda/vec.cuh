// Loads and stores of 16 bytes as floats, whatever the element type in memory.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/scalar.h"

namespace onpa::gpu {

/// Elements of T in 16 bytes.
template <class T>
constexpr int kVec = 16 / static_cast<int>(sizeof(T));

/// Whether all of the pointers are 16-byte aligned (null ones are).
template <class... P>
inline bool aligned16(const P*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

/// v = from[0 .. kVec<T>); `from` is 16-byte aligned.
GPU_FN void load16(const float* from, float (&v)[4]) {
  const float4 w = *reinterpret_cast<const float4*>(from);
  v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
}
GPU_FN void load16(const bf16* from, float (&v)[8]) {
  const uint4 w = *reinterpret_cast<const uint4*>(from);
  const float2 a = unpack_bf16(w.x), b = unpack_bf16(w.y), c = unpack_bf16(w.z),
               d = unpack_bf16(w.w);
  v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y, v[4] = c.x, v[5] = c.y, v[6] = d.x, v[7] = d.y;
}

/// to[0 .. kVec<T>) = v, rounded; `to` is 16-byte aligned.
GPU_FN void store16(float* to, const float (&v)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
}
GPU_FN void store16(bf16* to, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(to) = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                                             pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

}  // namespace onpa::gpu
