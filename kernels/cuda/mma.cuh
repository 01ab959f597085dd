// Tensor-core and asynchronous-copy instructions, one wrapper each. The simulator has its own of
// the same names; these are the only lines that it cannot check.
// Source: PTX ISA 8.x, sections on cp.async, ldmatrix, mma.sync.m16n8k16 and ex2.
#pragma once

#include "kernels/cuda/gpu.cuh"

namespace onpa::gpu {

#ifdef __CUDACC__
/// Starts copying 16 bytes from global to shared memory, past L1; both 16-byte aligned. With `pred`
/// false zeros are written and the source is not read.
GPU_FN void cp_async16(void* smem, const void* global, bool pred = true) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(smem));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
               "r"(pred ? 16 : 0)
               : "memory");
}
/// Ends a group of copies.
GPU_FN void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most N of this thread's groups are under way. Other threads' copies are visible
/// only after a barrier.
template <int N>
GPU_FN void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Loads four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix
/// l / 8; r[i] gets elements 2 (l % 4) and + 1 of row l / 4 of matrix i.
GPU_FN void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}
/// As ldmatrix_x4 with each matrix transposed.
GPU_FN void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

/// d (16 x 8, float) += a (16 x 16, row-major) b (16 x 8, column-major), bf16. With g = lane / 4,
/// t = lane % 4: d[0], d[1] are row g, columns 2t and 2t + 1, d[2], d[3] row g + 8; a[0] is row g,
/// columns 2t, 2t + 1, a[1] row g + 8, a[2] row g, columns + 8, a[3] row g + 8, columns + 8; b0 is
/// rows 2t, 2t + 1 of column g, b1 rows + 8.
GPU_FN void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                     std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// 2^x to about 2 ulp; subnormal results are 0.
GPU_FN float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two floats rounded to bf16, `lo` in the lower half.
GPU_FN std::uint32_t pack_bf16(float lo, float hi) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
  return word;
}
#endif

/// The two halves of a word as floats, x the lower.
GPU_FN float2 unpack_bf16(std::uint32_t word) {
  return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000u));
}

}  // namespace onpa::gpu
