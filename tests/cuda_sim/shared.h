// Shared memory: one heap block per variable, so that AddressSanitizer knows its exact size.
#pragma once

#include <cstddef>
#include <type_traits>

#include "tests/cuda_sim/barrier.h"
#include "tests/cuda_sim/control.h"

namespace sim::detail {

/// One GPU_SHARED variable of the program; `id` is given at its first use.
struct SharedSlot {
  const char* name;
  int id;
};

void* shared_variable(SharedSlot& slot, std::size_t bytes, std::size_t alignment, Site site);
unsigned char* dynamic_shared();
/// The part of dynamic shared memory at `offset` bytes as a Carver of the device counts them.
void* carve(unsigned char* memory, std::size_t offset, std::size_t bytes, Site site);
/// Fails unless p is 16-byte aligned and in this block's shared memory.
void check_shared(const void* p, const char* what, Site site);

}  // namespace sim::detail

#define GPU_SHARED(name, ...)                                                                   \
  static constinit ::sim::detail::SharedSlot name##_slot{#name, 0};                             \
  auto& name = *static_cast<std::type_identity_t<__VA_ARGS__>*>(::sim::detail::shared_variable( \
      name##_slot, sizeof(std::type_identity_t<__VA_ARGS__>),                                   \
      alignof(std::type_identity_t<__VA_ARGS__>), {__FILE__, __LINE__}))
#define GPU_DYN_SHARED(name) unsigned char* const name = ::sim::detail::dynamic_shared()

namespace onpa::gpu {

/// As the device's; here with a gap after each part in which every access is reported, and the sum
/// checked against the launch.
class Carver {
 public:
  explicit Carver(unsigned char* memory) : memory_(memory) {}
  template <class T>
  T* take(std::size_t count, SIM_SITE_PARAMS) {
    void* part = sim::detail::carve(memory_, used_, count * sizeof(T), {file, line});
    used_ += (count * sizeof(T) + 15) / 16 * 16;
    return static_cast<T*>(part);
  }

 private:
  unsigned char* memory_;
  std::size_t used_ = 0;
};

}  // namespace onpa::gpu
