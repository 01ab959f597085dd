// The life of a block in its slot.
#include <algorithm>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

namespace sim::detail {

namespace {

constexpr std::size_t kSyncWords = 2 + 32 * 2 * 32;  // the barrier's, and 32 groups of 32 warps

void start_thread(Thread& thread) {
  thread.state = State::kUnstarted;
  thread.site = {};
  thread.copies.clear();
  thread.copies_delivered = 0;
  thread.groups = 0;
  thread.fenced = thread.fence_used = false;
  thread.atomic_count = 0;
  if (has_tsan()) {
    thread.fiber.stack = engine().stacks.get(options().stack_bytes);
    thread.fiber.tsan_fiber = __tsan_create_fiber(0);
  }
  engine().scheduler.add(thread.id);
}

void return_stack(Thread& thread) {
  Fiber& fiber = thread.fiber;
  if (fiber.stack.bottom != nullptr) {
    // What an abandoned thread had on it is not poisoned for the next one.
    unpoison(fiber.stack.bottom, fiber.stack.bytes);
    engine().stacks.put(fiber.stack);
  }
  if (fiber.tsan_fiber != nullptr) engine().dead_fibers.push_back(fiber.tsan_fiber);
  fiber = {};
}

// What abandoned threads have done lies before the end of the launch, as if they had ended.
void order_abandoned() {
  if (!has_tsan()) return;
  constexpr unsigned kNoSync = 1;
  Engine& e = engine();
  for (Block& block : e.blocks) {
    for (Thread& thread : block.threads) {
      if (thread.fiber.tsan_fiber == nullptr) continue;
      __tsan_switch_to_fiber(thread.fiber.tsan_fiber, kNoSync);
      __tsan_release(&e.all_done);
      __tsan_switch_to_fiber(e.caller.tsan_fiber, kNoSync);
    }
  }
}

}  // namespace

void init_block(Block& block, int slot) {
  const dim3 extent = engine().launch->block;
  const std::size_t count = static_cast<std::size_t>(extent.x) * extent.y * extent.z;
  block.threads.resize(count);
  block.warps.assign((count + 31) / 32, {});
  block.live = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.index = static_cast<int>(i);
    thread.id = slot * static_cast<int>(count) + thread.index;
    thread.lane = thread.index % 32;
    thread.position = {static_cast<unsigned>(i % extent.x),
                       static_cast<unsigned>(i / extent.x % extent.y),
                       static_cast<unsigned>(i / extent.x / extent.y)};
    thread.warp = &block.warps[i / 32];
    thread.warp->lanes[thread.lane] = &thread;
    thread.warp->exists |= 1u << thread.lane;
  }
}

void start_block(Block& block, uint3 position) {
  ++stats().blocks;
  stats().threads += block.threads.size();
  block.position = position;
  block.live = static_cast<int>(block.threads.size());
  block.exited = block.arrived = 0;
  block.phase = 0;
  if (has_tsan()) block.sync = new std::uint64_t[kSyncWords]();
  for (std::size_t i = 0; i < block.warps.size(); ++i) {
    Warp& warp = block.warps[i];
    warp.exited = warp.waiting = 0;
    std::fill(std::begin(warp.phase), std::end(warp.phase), std::uint8_t{0});
    if (block.sync != nullptr) warp.sync = block.sync + 2 + i * 64;
  }
  reset_shared(block);
  for (Thread& thread : block.threads) start_thread(thread);
}

void end_block(Block& block) {
  // Nothing orders the block before this, and nothing must: the next block is not after it.
  const IgnoreAccesses quiet;
  for (Thread& thread : block.threads) return_stack(thread);
  delete[] block.sync;
  block.sync = nullptr;
  if (has_tsan()) free_shared(block);
}

void free_blocks() {
  const IgnoreAccesses quiet;
  if (engine().failed) order_abandoned();
  for (Block& block : engine().blocks) {
    end_block(block);
    free_shared(block);
    block.live = 0;
  }
}

}  // namespace sim::detail
