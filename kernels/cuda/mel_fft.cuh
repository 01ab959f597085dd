// Power spectra of real frames of 1024 samples, one warp a frame.
//
// The frame is read as 512 complex points (even samples real, odd ones imaginary). Three radix-8
// passes transform them in place in shared memory and leave them in digit-reversed order, which the
// last step, the split into the spectrum of the real frame, undoes by addressing.
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

constexpr int kFftPoints = 512;

struct FftRoots {
  float2 of512[7][64];  // [q - 1][j]: exp(-2 pi i j q / 512)
  float2 of64[7][8];    // [q - 1][j]: exp(-2 pi i j q / 64)
  float2 split[256];    // [k]: exp(-2 pi i k / 1024)
};

namespace detail {

// exp(-2 pi i k / n) by Taylor series, 0 <= k < n, good to the last bit of a float.
constexpr float2 unit_root(int k, int n) {
  double angle = -2 * 3.14159265358979323846 * k / n;
  if (2 * k > n) angle += 2 * 3.14159265358979323846;
  double cosine = 1, sine = angle, term = angle;
  for (int i = 2; i < 32; i += 2) {
    term *= -angle / i;
    cosine += term;
    term *= angle / (i + 1);
    sine -= -term;
  }
  return {static_cast<float>(cosine), static_cast<float>(sine)};
}

constexpr FftRoots make_roots() {
  FftRoots roots = {};
  for (int q = 1; q < 8; ++q) {
    for (int j = 0; j < 64; ++j) roots.of512[q - 1][j] = unit_root(j * q, 512);
    for (int j = 0; j < 8; ++j) roots.of64[q - 1][j] = unit_root(j * q, 64);
  }
  for (int k = 0; k < 256; ++k) roots.split[k] = unit_root(k, 1024);
  return roots;
}

}  // namespace detail

// Read through the L1 cache: lanes read neighbours.
__device__ constexpr FftRoots kFftRoots = detail::make_roots();

/// Where point or bin k lies in a buffer: one place of padding after eight keeps the accesses of
/// every pass out of each other's banks.
constexpr int fft_place(int k) {
  return k + k / 8;
}
constexpr int kFftPlaces = kFftPoints / 8 * 9;

GPU_FN float2 add(float2 a, float2 b) {
  return make_float2(a.x + b.x, a.y + b.y);
}
GPU_FN float2 sub(float2 a, float2 b) {
  return make_float2(a.x - b.x, a.y - b.y);
}
/// a - i b and a + i b.
GPU_FN float2 sub_i(float2 a, float2 b) {
  return make_float2(a.x + b.y, a.y - b.x);
}
GPU_FN float2 add_i(float2 a, float2 b) {
  return make_float2(a.x - b.y, a.y + b.x);
}
GPU_FN float2 times(float2 a, float2 b) {
  return make_float2(fmaf(-a.y, b.y, a.x * b.x), fmaf(a.x, b.y, a.y * b.x));
}

/// The DFT of 8 points in place.
GPU_FN void butterfly8(float2 (&x)[8]) {
  const float2 t4 = add(x[1], x[5]), t5 = sub(x[1], x[5]);
  const float2 t6 = add(x[3], x[7]), t7 = sub(x[3], x[7]);
  const float2 y0 = add(t4, t6), y2 = sub(t4, t6), y1 = sub_i(t5, t7), y3 = add_i(t5, t7);
  // exp(-i pi / 4) y1 and exp(-3 i pi / 4) y3.
  constexpr float kHalfSqrt = 0.70710678118654752f;
  const float2 z1 = make_float2(kHalfSqrt * (y1.x + y1.y), kHalfSqrt * (y1.y - y1.x));
  const float2 z3 = make_float2(kHalfSqrt * (y3.y - y3.x), -kHalfSqrt * (y3.x + y3.y));
  const float2 t0 = add(x[0], x[4]), t1 = sub(x[0], x[4]);
  const float2 t2 = add(x[2], x[6]), t3 = sub(x[2], x[6]);
  const float2 a0 = add(t0, t2), a2 = sub(t0, t2), a1 = sub_i(t1, t3), a3 = add_i(t1, t3);
  x[0] = add(a0, y0), x[4] = sub(a0, y0);
  x[1] = add(a1, z1), x[5] = sub(a1, z1);
  x[2] = sub_i(a2, y2), x[6] = add_i(a2, y2);
  x[3] = add(a3, z3), x[7] = sub(a3, z3);
}

/// First pass: butterfly j < 64 over points j + 64 r, which x holds.
GPU_FN void fft_first(float2 (&x)[8], int j, float2* points) {
  butterfly8(x);
  float2* to = points + fft_place(j);
  to[0] = x[0];
#pragma unroll
  for (int q = 1; q < 8; ++q) to[72 * q] = times(x[q], kFftRoots.of512[q - 1][j]);
}

/// The other two passes. All lanes call, after __syncwarp(); another must follow.
GPU_FN void fft_rest(float2* points) {
  const int lane = threadIdx.x % kWarp, run = lane / 8, j = lane % 8;
#pragma unroll 1  // both at once spill
  for (int half = 0; half < 2; ++half) {
    float2* at = points + 72 * (run + 4 * half) + j;
    float2 x[8];
#pragma unroll
    for (int r = 0; r < 8; ++r) x[r] = at[9 * r];
    butterfly8(x);
    at[0] = x[0];
#pragma unroll
    for (int q = 1; q < 8; ++q) at[9 * q] = times(x[q], kFftRoots.of64[q - 1][j]);
  }
  __syncwarp();
#pragma unroll 1
  for (int half = 0; half < 2; ++half) {
    float2* at = points + 72 * (run + 4 * half) + 9 * j;
    float2 x[8];
#pragma unroll
    for (int r = 0; r < 8; ++r) x[r] = at[r];
    butterfly8(x);
#pragma unroll
    for (int q = 0; q < 8; ++q) at[q] = x[q];
  }
}

/// Where the passes leave output k < 512.
GPU_FN int fft_output(int k) {
  return 72 * (k % 8) + 9 * (k / 8 % 8) + k / 64;
}

/// |X_k|^2 of the real frame whose halved samples were transformed, for k < 512, at fft_place(k) of
/// the same memory. With a = Z_k, b = Z_(512-k): X_k = e + w o and X_(512-k) = conj(e - w o), where
/// e = a + conj(b), o = -i (a - conj(b)), w = exp(-2 pi i k / 1024). All lanes call, after
/// __syncwarp(); another must follow.
GPU_FN float* split_power(float2* points) {
  const int lane = threadIdx.x % kWarp;
  const int k0 = 8 * (lane % 8) + 64 * (lane / 8);  // and the seven bins after it
  float low[8], high[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int k = k0 + i;
    const float2 a = points[fft_output(k)], b = points[fft_output((kFftPoints - k) % kFftPoints)];
    const float2 e = make_float2(a.x + b.x, a.y - b.y), o = make_float2(a.y + b.y, b.x - a.x);
    const float2 wo = times(o, kFftRoots.split[k]);
    const float2 l = add(e, wo), h = sub(e, wo);
    low[i] = fmaf(l.x, l.x, l.y * l.y);
    high[i] = fmaf(h.x, h.x, h.y * h.y);
  }
  const float2 middle = points[fft_output(256)];
  __syncwarp();
  auto* power = reinterpret_cast<float*>(points);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int k = k0 + i;
    power[fft_place(k)] = low[i];
    // mutation: bin 512 has a place too, which nobody reads
    if (k > 0) power[fft_place(kFftPoints - k)] = high[i];
  }
  if (lane == 0) power[fft_place(256)] = 4 * fmaf(middle.x, middle.x, middle.y * middle.y);
  return power;
}

}  // namespace onpa::gpu
