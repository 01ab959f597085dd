// What the calls of the simulated run time share: the device's memory, streams and last error.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "tests/cuda_sim/device.h"

namespace sim::detail {

/// One item of a graph: work, or the point of another branch that must be passed first.
struct GraphItem {
  Step work;  // copied for each launch; empty for a point
  std::size_t branch = 0, position = 0;
};
/// By branch: what one of the captured streams does, the stream that began the capture first.
using GraphBranches = std::vector<std::vector<GraphItem>>;

}  // namespace sim::detail

struct CUgraph_st {
  std::uint64_t id = 0;  // of the capture
  std::shared_ptr<sim::detail::GraphBranches> branches =
      std::make_shared<sim::detail::GraphBranches>(1);
  bool broken = false;
};
struct CUgraphExec_st {
  std::shared_ptr<const sim::detail::GraphBranches> branches;
};
struct CUstream_st {
  std::deque<sim::detail::Step> queue;
  bool blocking = true;           // waits for, and is waited for by, the null stream
  CUgraph_st* capture = nullptr;  // that it takes part in
  std::size_t branch = 0;         // as which
};
namespace sim::detail {

/// One record of an event in the work of a stream.
struct Record {
  CUstream_st* stream = nullptr;  // to whose end it is there
  bool reached = false;
  double clock_ms = 0;  // when it was reached
};

}  // namespace sim::detail

struct CUevent_st {
  std::shared_ptr<sim::detail::Record> last;  // null before the first
  int queries = 0;                            // since then
  // Where the last record was made, if in a capture.
  std::uint64_t capture = 0;
  std::size_t branch = 0, position = 0;
};

namespace sim::detail {

/// Blocks by address, with their bytes.
using Blocks = std::map<std::uintptr_t, std::size_t>;

struct Device {
  std::recursive_mutex mutex;
  Blocks device_blocks, pinned_blocks;
  std::set<CUstream_st*> streams;
  std::uint64_t captures = 0;  // begun
  cudaError_t last_error = cudaSuccess;
};
/// One for the process, never destroyed: statics of tests may free late.
Device& device();

/// Held by every call while it looks at or changes the device.
class DeviceLock {
 public:
  DeviceLock() : lock_(device().mutex) {}

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

bool holds(const Blocks& blocks, const void* p);

/// Returns `error`, which is the last one from now on unless it is none.
cudaError_t report(cudaError_t error);
/// Calls that wait, or that allocate, end a capture: of `stream`, or for null any.
cudaError_t refuse_in_capture(CUstream_st* stream);

/// Runs queued work until `record` is reached; false if something is not ready yet.
bool advance_until(const Record& record);
/// The work of one launch of a graph. What other branches do comes as late as it may.
Step launch_of(const CUgraphExec_st& graph);
/// Whether the first branch waits for all that the others do.
bool all_joined(const GraphBranches& branches);

// These run queued work, and wait for what is not ready.
void drain(CUstream_st* stream);
void drain_until(const Record& record);
void drain_all();
/// The streams that the null stream waits for.
void drain_blocking();

}  // namespace sim::detail
