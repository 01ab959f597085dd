// Warp collectives: shuffles, votes, reductions and the warp barrier.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

#include "tests/cuda_sim/barrier.h"
#include "tests/cuda_sim/control.h"

namespace sim::detail {

enum class WarpOp : std::uint8_t {
  kSync,
  kShfl,
  kShflUp,
  kShflDown,
  kShflXor,
  kBallot,
  kAny,
  kAll,
  kMatchAny,
  kReduceAddU,
  kReduceMinU,
  kReduceMaxU,
  kReduceMinS,
  kReduceMaxS,
  kReduceAnd,
  kReduceOr,
  kReduceXor,
  kLdmatrix,
  kLdmatrixTrans,
  kMma,
};

/// What a lane brings to a collective and takes away.
struct LaneCall {
  WarpOp op = WarpOp::kSync;
  std::uint32_t mask = 0;
  Site site;
  std::uint64_t value = 0, result = 0;
  int arg = 0, width = 32;
  void* data = nullptr;  // of ldmatrix and mma: the lane's operands
};

/// Blocks until all lanes of `mask` have called, then acts for all of them.
std::uint64_t warp_op(const LaneCall& call);

template <class T>
requires(std::is_trivially_copyable_v<T> && sizeof(T) <= 8) T
    shuffle(WarpOp op, unsigned mask, T value, int arg, int width, Site site) {
  LaneCall call{.op = op, .mask = mask, .site = site, .arg = arg, .width = width};
  std::memcpy(&call.value, &value, sizeof(T));
  const std::uint64_t bits = warp_op(call);
  T result;
  std::memcpy(&result, &bits, sizeof(T));
  return result;
}

inline std::uint64_t vote(WarpOp op, unsigned mask, std::uint64_t value, Site site) {
  return warp_op({.op = op, .mask = mask, .site = site, .value = value});
}

}  // namespace sim::detail

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, SIM_SITE_PARAMS) {
  sim::detail::warp_op({.op = sim::detail::WarpOp::kSync, .mask = mask, .site = {file, line}});
}

template <class T>
T __shfl_sync(unsigned mask, T v, int lane, int width = 32, SIM_SITE_PARAMS) {
  return sim::detail::shuffle(sim::detail::WarpOp::kShfl, mask, v, lane, width, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned step, int width = 32, SIM_SITE_PARAMS) {
  return sim::detail::shuffle(sim::detail::WarpOp::kShflUp, mask, v, static_cast<int>(step), width,
                              {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned step, int width = 32, SIM_SITE_PARAMS) {
  return sim::detail::shuffle(sim::detail::WarpOp::kShflDown, mask, v, static_cast<int>(step),
                              width, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, SIM_SITE_PARAMS) {
  return sim::detail::shuffle(sim::detail::WarpOp::kShflXor, mask, v, lanes, width, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIM_SITE_PARAMS) {
  return static_cast<unsigned>(
      sim::detail::vote(sim::detail::WarpOp::kBallot, mask, predicate != 0, {file, line}));
}
inline int __any_sync(unsigned mask, int predicate, SIM_SITE_PARAMS) {
  return static_cast<int>(
      sim::detail::vote(sim::detail::WarpOp::kAny, mask, predicate != 0, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, SIM_SITE_PARAMS) {
  return static_cast<int>(
      sim::detail::vote(sim::detail::WarpOp::kAll, mask, predicate != 0, {file, line}));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, SIM_SITE_PARAMS) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return static_cast<unsigned>(
      sim::detail::vote(sim::detail::WarpOp::kMatchAny, mask, bits, {file, line}));
}

#define SIM_REDUCE(name, type, op)                                                            \
  inline type name(unsigned mask, type v, SIM_SITE_PARAMS) {                                  \
    return static_cast<type>(sim::detail::vote(sim::detail::WarpOp::op, mask,                 \
                                               static_cast<std::uint32_t>(v), {file, line})); \
  }
SIM_REDUCE(__reduce_add_sync, unsigned, kReduceAddU)
SIM_REDUCE(__reduce_add_sync, int, kReduceAddU)
SIM_REDUCE(__reduce_min_sync, unsigned, kReduceMinU)
SIM_REDUCE(__reduce_min_sync, int, kReduceMinS)
SIM_REDUCE(__reduce_max_sync, unsigned, kReduceMaxU)
SIM_REDUCE(__reduce_max_sync, int, kReduceMaxS)
SIM_REDUCE(__reduce_and_sync, unsigned, kReduceAnd)
SIM_REDUCE(__reduce_or_sync, unsigned, kReduceOr)
SIM_REDUCE(__reduce_xor_sync, unsigned, kReduceXor)
#undef SIM_REDUCE
