// Atomics on global and shared memory: relaxed atomics of the host, before which another thread
// may be scheduled.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "tests/cuda_sim/control.h"

namespace sim::detail {

/// Told of every atomic access before it happens.
void atomic_point(void* address);

/// Replaces *p by change(*p) in one step and returns what it was.
template <class T, class Change>
T atomic_update(T* p, Change change) {
  using Word = std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
  static_assert(sizeof(Word) == sizeof(T));
  atomic_point(p);
  Word* word = reinterpret_cast<Word*>(p);
  Word before = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (true) {
    const T old = std::bit_cast<T>(before);
    const Word after = std::bit_cast<Word>(static_cast<T>(change(old)));
    if (__atomic_compare_exchange_n(word, &before, after, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      return old;
    }
  }
}

}  // namespace sim::detail

#define SIM_ATOMIC(name, type, expression)                                              \
  inline type name(type* p, type v) {                                                   \
    return sim::detail::atomic_update(p, [v](type old) -> type { return expression; }); \
  }                                                                                     \
  inline type name##_block(type* p, type v) {                                           \
    return name(p, v);                                                                  \
  }                                                                                     \
  inline type name##_system(type* p, type v) {                                          \
    return name(p, v);                                                                  \
  }
#define SIM_ATOMIC_INTEGERS(name, expression) \
  SIM_ATOMIC(name, int, expression)           \
  SIM_ATOMIC(name, unsigned, expression)      \
  SIM_ATOMIC(name, unsigned long long, expression)

SIM_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v)))
SIM_ATOMIC(atomicAdd, unsigned, old + v)
SIM_ATOMIC(atomicAdd, unsigned long long, old + v)
SIM_ATOMIC(atomicAdd, float, old + v)
SIM_ATOMIC(atomicAdd, double, old + v)
SIM_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(v)))
SIM_ATOMIC(atomicSub, unsigned, old - v)
SIM_ATOMIC_INTEGERS(atomicMin, std::min(old, v))
SIM_ATOMIC_INTEGERS(atomicMax, std::max(old, v))
SIM_ATOMIC(atomicMin, long long, std::min(old, v))
SIM_ATOMIC(atomicMax, long long, std::max(old, v))
SIM_ATOMIC_INTEGERS(atomicAnd, old& v)
SIM_ATOMIC_INTEGERS(atomicOr, old | v)
SIM_ATOMIC_INTEGERS(atomicXor, old ^ v)
SIM_ATOMIC_INTEGERS(atomicExch, ((void)old, v))
SIM_ATOMIC(atomicExch, float, ((void)old, v))
SIM_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
SIM_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)
#undef SIM_ATOMIC_INTEGERS
#undef SIM_ATOMIC

template <class T>
requires(std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
         std::is_same_v<T, unsigned long long> || std::is_same_v<T, unsigned short>) T
    atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return sim::detail::atomic_update(p, [=](T old) { return old == expected ? v : old; });
}
