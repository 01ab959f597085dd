// Block barriers and memory fences.
#pragma once

#include "tests/cuda_sim/control.h"

namespace sim::detail {
enum class Barrier { kPlain, kAnd, kOr, kCount };
int barrier(Barrier kind, bool predicate, Site site);
void fence();
[[noreturn]] void trap(Site site);
}  // namespace sim::detail

#define SIM_SITE_PARAMS const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SIM_SITE_PARAMS) {
  sim::detail::barrier(sim::detail::Barrier::kPlain, true, {file, line});
}
inline int __syncthreads_and(int predicate, SIM_SITE_PARAMS) {
  return sim::detail::barrier(sim::detail::Barrier::kAnd, predicate != 0, {file, line});
}
inline int __syncthreads_or(int predicate, SIM_SITE_PARAMS) {
  return sim::detail::barrier(sim::detail::Barrier::kOr, predicate != 0, {file, line});
}
inline int __syncthreads_count(int predicate, SIM_SITE_PARAMS) {
  return sim::detail::barrier(sim::detail::Barrier::kCount, predicate != 0, {file, line});
}

inline void __threadfence() {
  sim::detail::fence();
}
inline void __threadfence_block() {
  sim::detail::fence();
}
inline void __threadfence_system() {
  sim::detail::fence();
}
[[noreturn]] inline void __trap(SIM_SITE_PARAMS) {
  sim::detail::trap({file, line});
}
