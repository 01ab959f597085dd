// Stacks and the switch between them.
#pragma once

#include <cstddef>
#include <vector>

namespace sim::detail {

struct Stack {
  unsigned char* bottom = nullptr;
  std::size_t bytes = 0;
};

/// One flow of control: a CUDA thread, or the launch's caller.
struct Fiber {
  void* sp = nullptr;  // of a suspended fiber
  Stack stack;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan_fiber = nullptr;
};

/// Lends stacks; their tops are staggered, so that hot frames do not share cache sets.
class StackPool {
 public:
  ~StackPool();
  Stack get(std::size_t bytes);
  void put(Stack stack);

 private:
  std::vector<Stack> free_;
};

/// Makes `fiber` start in entry() on its stack when it is first switched to.
void prepare(Fiber& fiber, void (*entry)(), std::size_t stagger);

/// Leaves `from` (for good if `last`) and goes on with `to`; returns when somebody switches back.
void switch_fiber(Fiber& from, Fiber& to, bool last = false);

/// The first thing that a fiber's entry does.
void arrive(Fiber& self);

}  // namespace sim::detail
