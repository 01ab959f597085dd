// Asynchronous copies and the tensor-core instructions. Memory is read and written here, in the
// calling thread and in code that sanitizers see; the rest is in async.cpp and mma.cpp.
#pragma once

#include <cuda_bf16.h>
#include <vector_types.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/cuda_sim/shared.h"
#include "tests/cuda_sim/warp.h"

namespace sim::detail {

struct Words {
  std::uint32_t w[4];
};
struct Copy {
  void* to;
  Words words;
};
constexpr std::uint32_t kNotArrived = 0xFFFFFFFFu;  // NaN as float and as bf16

struct MmaOperands {
  float* d;
  const std::uint32_t* a;
  std::uint32_t b0, b1;
};
struct LdmatrixOperands {
  Words row;
  std::uintptr_t address;
  std::uint32_t* r;
};

/// Notes a copy that is under way; whether it should be delivered at once.
bool copy_begin(const Copy& copy, const void* from, bool pred, Site site);
void copy_commit();
/// The next copy that a wait for all but `groups_left` groups has to deliver, or null.
const Copy* copy_next(int groups_left);

// Word by word: an inline 16-byte memcpy or memset is not always seen by the sanitizers.
inline void store_words(void* to, const Words& words) {
  auto* w = static_cast<std::uint32_t*>(to);
  for (int i = 0; i < 4; ++i) w[i] = words.w[i];
}
inline Words load_words(const void* from) {
  const auto* w = static_cast<const std::uint32_t*>(from);
  return {{w[0], w[1], w[2], w[3]}};
}

template <WarpOp kOp>
void ldmatrix(std::uint32_t (&r)[4], const void* row, Site site) {
  check_shared(row, "ldmatrix row", site);
  LdmatrixOperands operands{load_words(row), reinterpret_cast<std::uintptr_t>(row), r};
  warp_op({.op = kOp, .mask = 0xFFFFFFFFu, .site = site, .data = &operands});
}

}  // namespace sim::detail

namespace onpa::gpu {

inline void cp_async16(void* smem, const void* global, bool pred = true, SIM_SITE_PARAMS) {
  sim::detail::check_shared(smem, "cp.async destination", {file, line});
  sim::detail::Copy copy{smem, {}};
  if (pred) copy.words = sim::detail::load_words(global);
  constexpr std::uint32_t kNan = sim::detail::kNotArrived;
  sim::detail::store_words(smem, {{kNan, kNan, kNan, kNan}});
  if (sim::detail::copy_begin(copy, global, pred, {file, line})) {
    sim::detail::store_words(smem, copy.words);
  }
}
inline void cp_async_commit() {
  sim::detail::copy_commit();
}
template <int N>
void cp_async_wait() {
  while (const sim::detail::Copy* copy = sim::detail::copy_next(N)) {
    sim::detail::store_words(copy->to, copy->words);
  }
}

inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, SIM_SITE_PARAMS) {
  sim::detail::ldmatrix<sim::detail::WarpOp::kLdmatrix>(r, row, {file, line});
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, SIM_SITE_PARAMS) {
  sim::detail::ldmatrix<sim::detail::WarpOp::kLdmatrixTrans>(r, row, {file, line});
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                     SIM_SITE_PARAMS) {
  sim::detail::MmaOperands operands{d, a, b0, b1};
  sim::detail::warp_op({.op = sim::detail::WarpOp::kMma,
                        .mask = 0xFFFFFFFFu,
                        .site = {file, line},
                        .data = &operands});
}

inline float fast_exp2(float x) {
  const float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}

inline std::uint32_t pack_bf16(float lo, float hi) {
  const auto round = [](float v) -> std::uint32_t {
    return __bfloat16_as_ushort(__float2bfloat16_rn(v));
  };
  return round(lo) | round(hi) << 16;
}

}  // namespace onpa::gpu
