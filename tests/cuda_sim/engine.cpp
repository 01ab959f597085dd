// Launches: blocks in order or shuffled into the resident slots, threads from first to last.
#include "tests/cuda_sim/engine.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <utility>

#include "tests/cuda_sim/sanitizers.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace sim::detail {

Engine& engine() {
  // Never destroyed: fibers of a failed launch may still refer to it at exit.
  static Engine& instance = *new Engine;
  return instance;
}

namespace {

void enter(Thread& thread) {
  Engine& e = engine();
  e.current = &thread;
  thread.state = State::kReady;
  threadIdx = thread.position;
  blockIdx = thread.block->position;
}

// To the launch's caller: because a block is finished, or because the launch has failed.
void return_to_caller(bool last) {
  Engine& e = engine();
  Fiber& from = e.current->fiber;
  switch_fiber(from, e.caller, last);
}

void check_races() {
  Engine& e = engine();
  if (e.races == 0) return;
  if (e.muted) {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    e.muted = false;
  }
  fail_at(e.current->site, "ThreadSanitizer has reported a race");
}

void count_switch() {
  Engine& e = engine();
  ++stats().switches;
  check_races();
  if (e.switches_left-- == 0) {
    fail_at(e.current->site,
            "livelock: no end after options().max_switches switches\n" + waiting_table());
  }
}

void thread_entry();

void go_on_with(Fiber& from, Thread& next, bool last = false) {
  if (next.state == State::kUnstarted) {
    if (next.fiber.stack.bottom == nullptr) {
      next.fiber.stack = engine().stacks.get(options().stack_bytes);
    }
    prepare(next.fiber, thread_entry, static_cast<std::size_t>(next.id));
  }
  enter(next);
  switch_fiber(from, next.fiber, last);
}

Thread& thread_of(int id) {
  Engine& e = engine();
  const auto per_slot = static_cast<int>(e.blocks[0].threads.size());
  return e.blocks[static_cast<std::size_t>(id / per_slot)]
      .threads[static_cast<std::size_t>(id % per_slot)];
}

std::string deadlock() {
  return "deadlock: no thread can go on\n" + waiting_table();
}

// What follows the end of the running thread. Returns the next one if it can have this stack.
Thread* finish_thread() {
  Engine& e = engine();
  Thread& thread = *e.current;
  check_races();
  thread.state = State::kDone;
  leave_warp(thread);
  leave_barrier(thread);
  tsan_release(&e.all_done);
  if (thread.block->live == 0) {
    check_copies(*thread.block);
    e.finished = thread.block;
    return_to_caller(true);
  }
  const int id = e.scheduler.take();
  if (id < 0) fail_at({}, deadlock());
  Thread& next = thread_of(id);
  const Stack stack = thread.fiber.stack;
  if (!has_tsan()) {
    // Free from here on: nobody takes it before this thread has left it.
    thread.fiber.stack = {};
    if (next.state == State::kUnstarted) {
      next.fiber.stack = stack;
      enter(next);
      return &next;
    }
    e.stacks.put(stack);
  }
  count_switch();
  go_on_with(thread.fiber, next, true);
  __builtin_unreachable();
}

void thread_entry() {
  Engine& e = engine();
  arrive(e.current->fiber);
  try {
    do {
      e.launch->thread();
    } while (finish_thread() != nullptr);
  } catch (const std::exception& error) {
    e.failed = true;
    e.message = error.what();
  }
  // Only a failure comes here: all threads are abandoned, this one where it holds nothing.
  return_to_caller(false);
}

}  // namespace

void fail_at(Site site, const std::string& what) {
  std::string message = what;
  if (site.line > 0) {
    message = std::string(site.file) + ":" + std::to_string(site.line) + ": " + message;
  }
  const Engine& e = engine();
  if (e.current != nullptr) message += where_is(*e.current);
  throw Error(message);
}

void make_ready(Thread& thread) {
  thread.state = State::kReady;
  engine().scheduler.add(thread.id);
}

void block_current() {
  Engine& e = engine();
  const int id = e.scheduler.take();
  if (id < 0) fail_at({}, deadlock());
  Thread& next = thread_of(id);
  if (&next == e.current) return;
  Fiber& from = e.current->fiber;
  count_switch();
  go_on_with(from, next);
}

void yield_current() {
  Engine& e = engine();
  e.scheduler.add(e.current->id);
  Thread& next = thread_of(e.scheduler.take_after(e.current->id));
  if (&next == e.current) return;
  Fiber& from = e.current->fiber;
  count_switch();
  go_on_with(from, next);
}

namespace {

void check_launch(const Launch& launch) {
  const auto refuse = [&launch](const std::string& what) {
    throw Error(std::string(launch.site.file) + ":" + std::to_string(launch.site.line) +
                ": launch refused: " + what);
  };
  const dim3 b = launch.block, g = launch.grid;
  const std::uint64_t threads = static_cast<std::uint64_t>(b.x) * b.y * b.z;
  if (threads == 0 || threads > 1024 || b.x > 1024 || b.y > 1024 || b.z > 64) {
    refuse("a block of " + std::to_string(threads) + " threads, want 1 to 1024 (z: 64)");
  }
  if (g.x == 0 || g.x > 0x7FFFFFFFu || g.y == 0 || g.y > 65535 || g.z == 0 || g.z > 65535) {
    refuse("a grid of " + std::to_string(g.x) + " x " + std::to_string(g.y) + " x " +
           std::to_string(g.z) + " blocks, want 1 to 2^31 - 1, 65535, 65535");
  }
  if (launch.smem_bytes > options().max_smem) {
    refuse(std::to_string(launch.smem_bytes) + " bytes of shared memory, have " +
           std::to_string(options().max_smem));
  }
}

uint3 position_of(std::uint64_t linear, dim3 extent) {
  return {static_cast<unsigned>(linear % extent.x),
          static_cast<unsigned>(linear / extent.x % extent.y),
          static_cast<unsigned>(linear / extent.x / extent.y)};
}

// The order in which blocks start: as counted, backwards, or shuffled.
class BlockOrder {
 public:
  explicit BlockOrder(std::uint64_t count) : count_(count) {
    constexpr std::uint64_t kMostShuffled = 1u << 22;
    if (options().policy == Policy::kInOrder || options().policy == Policy::kReverse ||
        count > kMostShuffled) {
      return;
    }
    shuffled_.resize(count);
    std::iota(shuffled_.begin(), shuffled_.end(), 0u);
    for (std::size_t k = count; k > 1; --k) {
      std::swap(shuffled_[engine().random.below(static_cast<std::uint32_t>(k))], shuffled_[k - 1]);
    }
  }
  bool empty() const { return next_ == count_; }
  std::uint64_t take() {
    const std::uint64_t i = next_++;
    if (!shuffled_.empty()) return shuffled_[i];
    return options().policy == Policy::kReverse ? count_ - 1 - i : i;
  }

 private:
  std::uint64_t count_, next_ = 0;
  std::vector<std::uint32_t> shuffled_;
};

void run_blocks(const Launch& launch) {
  Engine& e = engine();
  const std::uint64_t count =
      static_cast<std::uint64_t>(launch.grid.x) * launch.grid.y * launch.grid.z;
  BlockOrder order(count);
  for (Block& block : e.blocks) {
    if (!order.empty()) start_block(block, position_of(order.take(), launch.grid));
  }
  while (true) {
    const int id = e.scheduler.take();
    if (id < 0) {
      e.message = deadlock();
      e.failed = true;
      return;
    }
    go_on_with(e.caller, thread_of(id));
    e.current = nullptr;
    if (e.failed) return;
    Block& block = *e.finished;
    end_block(block);
    if (!order.empty()) {
      start_block(block, position_of(order.take(), launch.grid));
    } else if (std::all_of(e.blocks.begin(), e.blocks.end(),
                           [](const Block& b) { return b.live == 0; })) {
      return;
    }
  }
}

void destroy_dead_fibers() {
  Engine& e = engine();
  if (!has_tsan()) return;
  // In random order: a fiber that gets a dead one's number would pass for it.
  for (std::size_t k = e.dead_fibers.size(); k > 1; --k) {
    std::swap(e.dead_fibers[e.random.below(static_cast<std::uint32_t>(k))], e.dead_fibers[k - 1]);
  }
  for (void* fiber : e.dead_fibers) __tsan_destroy_fiber(fiber);
  e.dead_fibers.clear();
}

}  // namespace

}  // namespace sim::detail

namespace sim {

void run(const Launch& launch) {
  using namespace detail;
  static std::mutex one_at_a_time;
  Engine& e = engine();
  if (e.current != nullptr) throw Error("a launch from within a kernel");
  const std::lock_guard lock(one_at_a_time);
  check_launch(launch);
  install_death_note();
  const int threads = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  const int slots =
      std::clamp(options().resident_blocks, 1, std::max(1, Scheduler::kMaxThreads / threads));
  e.launch = &launch;
  e.failed = false;
  e.switches_left = options().max_switches;
  ++stats().launches;
  e.random.reset(options().seed * 1000003 + ++e.launch_number);
  e.scheduler.reset(options().policy, slots, threads, &e.random);
  if (has_tsan()) e.caller.tsan_fiber = __tsan_get_current_fiber();
  blockDim = launch.block;
  gridDim = launch.grid;
  e.caller.stack = {};
  e.blocks.resize(static_cast<std::size_t>(slots));
  for (int slot = 0; slot < slots; ++slot)
    init_block(e.blocks[static_cast<std::size_t>(slot)], slot);
  run_blocks(launch);
  free_blocks();
  destroy_dead_fibers();
  tsan_acquire(&e.all_done);
  e.launch = nullptr;
  if (!e.failed) return;
  if (!e.counting_races) e.races = 0;
  throw Error(std::exchange(e.message, {}));
}

}  // namespace sim
