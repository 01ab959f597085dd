// The sanitizers' run-time calls, as weak symbols: the engine is built without instrumentation, and
// one build of it serves plain, AddressSanitizer and ThreadSanitizer programs.
#pragma once

#include <cstddef>

extern "C" {
#define SIM_WEAK __attribute__((weak))
SIM_WEAK void __asan_poison_memory_region(const volatile void* p, std::size_t bytes);
SIM_WEAK void __asan_unpoison_memory_region(const volatile void* p, std::size_t bytes);
SIM_WEAK void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom,
                                             std::size_t bytes);
SIM_WEAK void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom,
                                              std::size_t* bytes);
SIM_WEAK void __sanitizer_set_death_callback(void (*callback)());
SIM_WEAK void* __tsan_get_current_fiber();
SIM_WEAK void* __tsan_create_fiber(unsigned flags);
SIM_WEAK void __tsan_destroy_fiber(void* fiber);
SIM_WEAK void __tsan_switch_to_fiber(void* fiber, unsigned flags);
SIM_WEAK void __tsan_acquire(void* address);
SIM_WEAK void __tsan_release(void* address);
SIM_WEAK void AnnotateIgnoreReadsBegin(const char* file, int line);
SIM_WEAK void AnnotateIgnoreReadsEnd(const char* file, int line);
SIM_WEAK void AnnotateIgnoreWritesBegin(const char* file, int line);
SIM_WEAK void AnnotateIgnoreWritesEnd(const char* file, int line);
#undef SIM_WEAK
}

namespace sim::detail {

inline bool has_asan() {
  return __asan_poison_memory_region != nullptr;
}
inline bool has_tsan() {
  return __tsan_create_fiber != nullptr;
}

inline void poison(const void* p, std::size_t bytes) {
  if (has_asan()) __asan_poison_memory_region(p, bytes);
}
inline void unpoison(const void* p, std::size_t bytes) {
  if (has_asan()) __asan_unpoison_memory_region(p, bytes);
}
inline void tsan_release(void* address) {
  if (has_tsan()) __tsan_release(address);
}
inline void tsan_acquire(void* address) {
  if (has_tsan()) __tsan_acquire(address);
}

/// Hides what libc's interceptors see while the engine itself runs in a kernel's thread.
class IgnoreAccesses {
 public:
  IgnoreAccesses() {
    if (!has_tsan()) return;
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~IgnoreAccesses() {
    if (!has_tsan()) return;
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
  IgnoreAccesses(const IgnoreAccesses&) = delete;
};

}  // namespace sim::detail
