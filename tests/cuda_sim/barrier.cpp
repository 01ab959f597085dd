// __syncthreads and its kin, fences and the scheduling points at atomics.
#include <algorithm>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

namespace sim::detail {

namespace {

std::string place(Site site) {
  return std::string(site.file) + ":" + std::to_string(site.line);
}

int result_of(const Block& block) {
  switch (block.kind) {
    case Barrier::kAnd:
      return block.count == block.arrived;
    case Barrier::kOr:
      return block.count > 0;
    case Barrier::kCount:
      return block.count;
    case Barrier::kPlain:
      break;
  }
  return 0;
}

void complete(Block& block) {
  block.results[block.phase & 1] = result_of(block);
  ++block.phase;
  block.arrived = block.count = 0;
  ++stats().barriers;
  for (Thread& thread : block.threads) {
    if (thread.state == State::kAtBarrier) make_ready(thread);
  }
  constexpr std::uint32_t kRedrawOneIn = 4;
  if (engine().random.below(kRedrawOneIn) == 0) engine().scheduler.redraw();
}

// A fence serves the atomics up to the next meeting with other threads.
void retire_fence(Thread& thread) {
  if (thread.fence_used) thread.fenced = thread.fence_used = false;
}

}  // namespace

int barrier(Barrier kind, bool predicate, Site site) {
  Engine& e = engine();
  Thread& thread = *e.current;
  Block& block = *thread.block;
  thread.site = site;
  thread.barrier = kind;
  retire_fence(thread);
  if (block.exited > 0 && !options().allow_early_exit) {
    fail_at(site, std::string(name_of(kind)) + " after " + std::to_string(block.exited) +
                      " threads of the block have ended");
  }
  if (block.arrived == 0) {
    block.site = site;
    block.kind = kind;
  } else if (block.site.line != site.line || block.kind != kind) {
    fail_at(site, std::string("divergent barriers: ") + name_of(kind) + " here, others wait at " +
                      name_of(block.kind) + " " + place(block.site) + "\n" + waiting_table());
  }
  const unsigned phase = block.phase & 1;
  if (block.sync != nullptr) tsan_release(&block.sync[phase]);
  ++block.arrived;
  block.count += predicate;
  thread.state = State::kAtBarrier;
  if (block.arrived == block.live) complete(block);
  block_current();
  if (block.sync != nullptr) tsan_acquire(&block.sync[phase]);
  return block.results[phase];
}

void leave_barrier(Thread& thread) {
  Block& block = *thread.block;
  --block.live;
  ++block.exited;
  if (block.arrived == 0) return;
  if (!options().allow_early_exit) {
    fail_at(block.site, "a thread of the block ends while " + std::to_string(block.arrived) +
                            " wait at this " + name_of(block.kind));
  }
  if (block.arrived == block.live) complete(block);
}

void fence() {
  Thread& thread = *engine().current;
  thread.fenced = true;
  thread.fence_used = false;
  const int count = std::min(thread.atomic_count, 8);
  for (int i = 0; i < count; ++i) tsan_acquire(thread.atomics[i]);
}

void atomic_point(void* address) {
  Engine& e = engine();
  Thread& thread = *e.current;
  ++stats().atomics;
  constexpr std::uint32_t kYieldOneIn = 4;
  if (e.random.below(kYieldOneIn) == 0) yield_current();
  if (thread.fenced) {
    thread.fence_used = true;
    tsan_release(address);
  }
  thread.atomics[thread.atomic_count++ % 8] = address;
}

void trap(Site site) {
  fail_at(site, "__trap");
}

}  // namespace sim::detail
