// The simulator's state: one launch, its resident blocks, their warps and threads. One OS thread
// runs all of it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda_sim/async.h"
#include "tests/cuda_sim/barrier.h"
#include "tests/cuda_sim/control.h"
#include "tests/cuda_sim/fiber.h"
#include "tests/cuda_sim/scheduler.h"
#include "tests/cuda_sim/shared.h"
#include "tests/cuda_sim/warp.h"

namespace sim::detail {

enum class State : std::uint8_t { kUnstarted, kReady, kAtBarrier, kInWarpOp, kDone };

struct Block;
struct Warp;

/// A cp.async under way.
struct PendingCopy {
  Copy copy;
  int group = 0;  // of the thread's commit count at issue
  Site site;
};

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  Warp* warp = nullptr;
  int id = 0;     // the scheduler's
  int index = 0;  // in the block
  int lane = 0;
  uint3 position = {};
  State state = State::kUnstarted;
  Barrier barrier = Barrier::kPlain;
  Site site;
  LaneCall call;
  std::vector<PendingCopy> copies;
  std::size_t copies_delivered = 0;
  int groups = 0;  // committed
  // Atomics and fences, for ThreadSanitizer: fences publish at the next atomic, and take what
  // earlier atomics read.
  bool fenced = false, fence_used = false;
  void* atomics[8] = {};
  int atomic_count = 0;
};

struct Warp {
  Thread* lanes[32] = {};
  std::uint32_t exists = 0, exited = 0, waiting = 0;
  bool uniform = true;            // all that wait have called the same
  std::uint8_t phase[32] = {};    // of the group whose lowest lane this is
  std::uint64_t* sync = nullptr;  // two words per group: addresses that name barriers to TSan
};

struct SharedRange {
  unsigned char* memory = nullptr;
  std::size_t bytes = 0;
};

struct CarvedPart {
  std::size_t offset, bytes, at;
};

struct Block {
  uint3 position = {};
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  int live = 0;
  int exited = 0;
  // Barrier.
  int arrived = 0;
  unsigned phase = 0;
  Site site;
  Barrier kind = Barrier::kPlain;
  int count = 0;
  int results[2] = {};
  std::uint64_t* sync = nullptr;  // two words of the barrier, then the warps'
  // Shared memory.
  std::vector<SharedRange> variables;
  std::vector<unsigned char*> by_slot;
  std::size_t static_bytes = 0;
  unsigned char* dynamic = nullptr;
  std::size_t dynamic_allocated = 0;
  std::vector<CarvedPart> parts;
};

struct Engine {
  const Launch* launch = nullptr;
  bool running = false;
  Fiber caller;
  Thread* current = nullptr;
  std::vector<Block> blocks;  // the resident ones
  StackPool stacks;
  Scheduler scheduler;
  Random random;
  std::uint64_t launch_number = 0;  // part of the seed; for_schedules starts it again
  std::uint64_t switches_left = 0;
  int races = 0;                // reported by ThreadSanitizer and not yet told
  bool counting_races = false;  // sim::races tells, not an Error
  bool muted = false;           // the running thread's accesses, after a report
  bool failed = false;
  std::string message;
  Block* finished = nullptr;
  std::vector<void*> dead_fibers;  // of ThreadSanitizer
  std::uint64_t all_done = 0;      // its address orders a launch before what follows it
};

Engine& engine();

// engine.cpp
/// The running thread waits, or is one of those that can run: goes on with the policy's choice, and
/// returns when the running thread is chosen again.
void block_current();
/// Lets another thread go on, if one can; the running one goes on later.
void yield_current();
void make_ready(Thread& thread);
[[noreturn]] void fail_at(Site site, const std::string& what);

// block.cpp
void init_block(Block& block, int slot);
void start_block(Block& block, uint3 position);
void end_block(Block& block);
void free_blocks();

// async.cpp
/// The block's threads have ended: looks at the copies that none of them waited for.
void check_copies(const Block& block);

// barrier.cpp
/// The running thread has ended: what that means for those who wait for it.
void leave_barrier(Thread& thread);
/// As leave_barrier, for the warp.
void leave_warp(Thread& thread);

// shared.cpp
void reset_shared(Block& block);
void free_shared(Block& block);

// report.cpp
std::string where_is(const Thread& thread);
std::string waiting_table();
const char* name_of(WarpOp op);
const char* name_of(Barrier kind);
/// Prints whose thread runs: a sanitizer ends the process without a word on it.
void death_note();
void install_death_note();

// mma.cpp: all lanes of the warp have brought their operands.
void run_ldmatrix(Warp& warp, bool transpose);
void run_mma(Warp& warp);

}  // namespace sim::detail
