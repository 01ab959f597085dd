// What tests say to the simulator: how threads are scheduled, what a launch is, what was counted.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace sim {

/// A kernel did what CUDA does not allow. The message names the kernel line, block, thread, policy
/// and seed. The launch is abandoned; the next one works.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A place in the sources.
struct Site {
  const char* file = "";
  int line = 0;
};

/// Which of the threads that can run goes on when one blocks. kInOrder and kReverse go by thread
/// index, kUniform draws evenly, kPriority lets one warp (and lane) run as far ahead as it can, by
/// ranks redrawn now and then.
enum class Policy { kInOrder, kReverse, kUniform, kPriority };

/// When the data of cp.async arrives: at the wait, at once, or at either by chance. Until then the
/// destination is NaN.
enum class CpAsync { kLate, kEarly, kRandom };

struct Options {
  std::uint64_t seed = 1;
  Policy policy = Policy::kInOrder;
  CpAsync cp_async = CpAsync::kLate;
  int resident_blocks = 1;                // blocks whose threads interleave
  bool allow_early_exit = false;          // a thread may end while others still meet at barriers
  std::size_t max_smem = 163 * 1024;      // bytes per block, static and dynamic
  std::size_t stack_bytes = 256 * 1024;   // per thread; only touched pages cost
  std::uint64_t max_switches = 1u << 30;  // per launch; more is called a livelock
};

/// The options of the launches that follow. Defaults come from SIM_SEED (a number), SIM_POLICY
/// (inorder, reverse, uniform, priority), SIM_CP_ASYNC (late, early, random) and SIM_BLOCKS.
Options& options();

/// What has happened since the counters were last set to zero.
struct Stats {
  std::uint64_t launches = 0, blocks = 0, threads = 0, switches = 0, barriers = 0, warp_ops = 0;
  std::uint64_t atomics = 0, cp_async = 0, mma = 0, ldmatrix = 0;
  std::uint64_t ldmatrix_replays = 0;  // shared-memory accesses beyond one per 8x8 matrix
};
Stats& stats();

/// One kernel launch; a copy can be run later and more than once.
struct Launch {
  dim3 grid, block;
  std::size_t smem_bytes = 0;
  cudaStream_t stream = nullptr;
  Site site;
  std::function<void()> thread;  // calls the kernel with its arguments
};

/// Runs a launch to its end. Throws Error; a launch that is refused (too many threads, too much
/// shared memory) ran nothing.
void run(const Launch& launch);

/// Where gpu::launch sends its launches: `sink` may run them, or keep them for a graph. An empty
/// sink, the initial state, runs them at once. Returns the one before.
using LaunchSink = std::function<void(Launch)>;
LaunchSink set_launch_sink(LaunchSink sink);

/// Policy, cp.async delivery, resident blocks and seed of options() as text.
std::string schedule_name();

/// Calls f under InOrder with early cp.async, then, with late, Reverse, Uniform with two resident
/// blocks, Priority, and Priority with three; seeds follow from SIM_SEED. Restores the options.
/// Error passes through.
void for_schedules(const std::function<void()>& f);

}  // namespace sim
