// How fast the ranks of a job add up, beside what their memory and network allow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dist/comm.h"

namespace onpa::apps {

struct CommBenchOptions {
  std::int64_t most_bytes = std::int64_t{256} << 20;  // the largest all_reduce; at least 1024
  double seconds_a_size = 1;                          // repetitions go on for so long
  DeviceKind device = DeviceKind::kCpu;  // where the tensors are; on the GPU the Comm is NCCL's
};

/// Times of one collective of every rank, the slowest rank of each repetition counting.
struct CommTime {
  std::int64_t bytes = 0;                   // of each rank's tensor
  double seconds = 0, fastest_seconds = 0;  // median and least
  std::int64_t repetitions = 0;
};

/// The same on all ranks.
struct CommBenchResult {
  int ranks = 0, hosts = 0, most_ranks_a_host = 0;
  int cores_a_host = 0;  // that a rank's process may use, the least of all hosts
  DeviceKind device = DeviceKind::kCpu;
  /// Copied at once by all ranks that share a memory, those of the slowest host; a GPU's memory is
  /// of one rank.
  double copy_bytes_second = 0;
  int ranks_a_memory() const { return device == DeviceKind::kCpu ? most_ranks_a_host : 1; }
  /// Of transfers from every rank to the next, all at once.
  std::vector<CommTime> neighbour, all_reduce;
  std::string backend;  // "MPI", "TCP", "NCCL over MPI", "threads"
};

/// Bytes that each rank has to send for an all_reduce of `bytes`, at least: 2 (n - 1) / n of them.
/// Divided by the time it is the bus bandwidth, which does not depend on the number of ranks.
double bus_bytes(std::int64_t bytes, int ranks);

/// All ranks call it. Throws Error as collectives do.
CommBenchResult bench_comm(dist::Comm& comm, const CommBenchOptions& options);

/// Seconds that an all_reduce should take: its bytes at the rate at which neighbours exchange as
/// many, and the sum of all ranks' shares in memory, on every host at once.
double expected_seconds(const CommBenchResult& result, std::size_t size);

struct CommVerdict {
  double share = 0;                 // of the expected speed, of the largest all_reduce
  std::string text;                 // one line
  std::vector<std::string> causes;  // what to look at first; empty if all is well
};
CommVerdict comm_verdict(const CommBenchResult& result);

/// For people, at most 80 columns; and one JSON object with all digits.
std::string comm_bench_text(const CommBenchResult& result);
std::string comm_bench_json(const CommBenchResult& result);

}  // namespace onpa::apps
