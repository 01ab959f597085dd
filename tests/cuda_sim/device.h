// The simulated device behind the run time's calls: memory with an address space of its own,
// streams whose work is late, events and graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace sim {

/// What the simulated device claims to be; tests change it to provoke errors.
struct DeviceOptions {
  int count = 1;                          // GPUs; 0: none
  cudaError_t start_error = cudaSuccess;  // of cudaGetDeviceCount
  int major = 8, minor = 0;               // compute capability
  std::size_t memory_bytes = std::size_t{4} << 30;
  std::string bus = {};  // PCI address; empty: one of its own in every process
  // The n-th request for memory of its kind that is refused, whatever there is; 0: none. SIM_REFUSE
  // sets one of them: "cudaMalloc:3", "cudaMallocHost:1".
  std::size_t refuse_malloc = 0, refuse_malloc_host = 0;
  // What work takes by the clock that events read, in ms: a kernel; a cuBLASLt product by candidate
  // i of its algorithms (below 0: the candidate turns out not to work), and more with its bias.
  double kernel_ms = 1;
  std::vector<double> algorithm_ms = {1, 1, 1};
  double bias_ms = 0;
};
DeviceOptions& device_options();

/// What the device has done since the counters were last set to zero.
struct DeviceStats {
  std::size_t allocations = 0, graph_launches = 0, eager_launches = 0;
  std::size_t mallocs = 0, host_mallocs = 0;  // asked for, given or not
  std::size_t live_bytes = 0;
  double clock_ms = 0;
  std::map<int, std::size_t> products;  // of cuBLASLt that have run, by candidate
  std::size_t biased_products = 0;      // those of them that added a bias
};
DeviceStats& device_stats();

namespace detail {

/// Queued work: does what it can and says whether it is done; called again until it is. A copy of
/// one that has not been called can be run anew.
using Step = std::function<bool()>;

/// Queues work on a stream: it runs when something waits for it. Work on the null stream runs at
/// once, work on a stream that is being captured goes into the graph.
void enqueue(cudaStream_t stream, std::function<void()> work);
void enqueue_step(cudaStream_t stream, Step work);
bool is_device_memory(const void* p);

}  // namespace detail

}  // namespace sim
