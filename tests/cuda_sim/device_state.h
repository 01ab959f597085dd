// What the calls of the simulated run time share: the device's memory, streams and last error.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "tests/cuda_sim/device.h"

struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};
struct CUstream_st {
  std::deque<std::function<void()>> queue;
  bool blocking = true;  // waits for, and is waited for by, the null stream
  CUgraph_st* capture = nullptr;
  bool capture_broken = false;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;         // of the last record
  std::uint64_t asked = 0, reached = 0;  // records queued, records passed
  double clock_ms = 0;                   // when the last one was passed
};

namespace sim::detail {

/// Blocks by address, with their bytes.
using Blocks = std::map<std::uintptr_t, std::size_t>;

struct Device {
  std::recursive_mutex mutex;
  Blocks device_blocks, pinned_blocks;
  std::set<CUstream_st*> streams;
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

// These run queued work.
void drain(CUstream_st* stream);
void drain_until(const CUevent_st* event, std::uint64_t record);
void drain_all();
/// The streams that the null stream waits for.
void drain_blocking();

}  // namespace sim::detail
