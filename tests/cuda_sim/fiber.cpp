#include "tests/cuda_sim/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/cuda_sim/sanitizers.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

#ifdef __x86_64__
// Saves the callee-saved registers on the stack that is left and restores them from the other.
extern "C" void sim_switch_stack(void** save_sp, void* load_sp);
asm(R"(
.text
.globl sim_switch_stack
.type sim_switch_stack,@function
sim_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sim_switch_stack,.-sim_switch_stack
)");
#endif

namespace sim::detail {

namespace {

constexpr std::size_t kPage = 4096;

Stack map_stack(std::size_t bytes) {
  // ThreadSanitizer forgets what happened in memory only when it is freed and allocated again.
  if (has_tsan()) return {static_cast<unsigned char*>(std::aligned_alloc(kPage, bytes)), bytes};
  void* p = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mprotect(p, kPage, PROT_NONE);
  return {static_cast<unsigned char*>(p) + kPage, bytes};
}

void unmap_stack(Stack stack) {
  if (has_tsan()) {
    std::free(stack.bottom);
  } else {
    munmap(stack.bottom - kPage, stack.bytes + kPage);
  }
}

}  // namespace

StackPool::~StackPool() {
  for (const Stack& stack : free_) unmap_stack(stack);
}

Stack StackPool::get(std::size_t bytes) {
  bytes = (bytes + kPage - 1) / kPage * kPage;
  while (!free_.empty()) {
    const Stack stack = free_.back();
    free_.pop_back();
    if (stack.bytes == bytes) return stack;
    unmap_stack(stack);
  }
  return map_stack(bytes);
}

void StackPool::put(Stack stack) {
  if (has_tsan()) {
    unmap_stack(stack);
  } else {
    free_.push_back(stack);
  }
}

#ifdef __x86_64__

void prepare(Fiber& fiber, void (*entry)(), std::size_t stagger) {
  auto* top =
      reinterpret_cast<std::uintptr_t*>(fiber.stack.bottom + fiber.stack.bytes - stagger % 56 * 64);
  // A zero where entry's own return address would be, entry for `ret` to go to, six registers. The
  // stack is then aligned as after a call.
  *--top = 0;
  *--top = reinterpret_cast<std::uintptr_t>(entry);
  for (int i = 0; i < 6; ++i) *--top = 0;
  fiber.sp = top;
}

static void switch_stack(Fiber& from, Fiber& to) {
  sim_switch_stack(&from.sp, to.sp);
}

#else

void prepare(Fiber& fiber, void (*entry)(), std::size_t stagger) {
  auto* context = new (fiber.stack.bottom) ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack.bottom + sizeof(ucontext_t);
  context->uc_stack.ss_size = fiber.stack.bytes - sizeof(ucontext_t) - stagger % 56 * 64;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  fiber.sp = context;
}

static void switch_stack(Fiber& from, Fiber& to) {
  ucontext_t here;
  from.sp = &here;
  auto* target = static_cast<ucontext_t*>(to.sp);
  swapcontext(&here, target);
}

#endif

namespace {
// Whose stack bounds the next arrival learns: a caller's, which nobody else knows.
Fiber* g_left = nullptr;
}  // namespace

void arrive(Fiber& self) {
  if (!__sanitizer_finish_switch_fiber) return;
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack, &bottom, &bytes);
  if (g_left != nullptr && g_left->stack.bottom == nullptr) {
    g_left->stack = {const_cast<unsigned char*>(static_cast<const unsigned char*>(bottom)), bytes};
  }
  g_left = nullptr;
}

void switch_fiber(Fiber& from, Fiber& to, bool last) {
  if (__sanitizer_start_switch_fiber) {
    g_left = last ? nullptr : &from;
    __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack.bottom,
                                   to.stack.bytes);
  }
  constexpr unsigned kNoSync = 1;
  if (has_tsan()) __tsan_switch_to_fiber(to.tsan_fiber, kNoSync);
  switch_stack(from, to);
  arrive(from);
}

}  // namespace sim::detail
