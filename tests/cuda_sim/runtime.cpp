// Streams, events, memory and graphs of the simulated device. Work on a stream that was created
// runs as late as the run time's rules allow, when something waits for it, so that host code which
// forgets to wait reads old data. The address space of the device is checked by range.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_sim/control.h"
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

namespace sim {

DeviceOptions& device_options() {
  static DeviceOptions options;
  return options;
}
DeviceStats& device_stats() {
  static DeviceStats stats;
  return stats;
}

namespace {

constexpr std::size_t kAlignment = 256;
// Fresh device memory is NaN in every float type.
constexpr int kPoison = 0xFF;

// One for the process, never destroyed: statics of tests may free late.
struct Device {
  std::recursive_mutex mutex;
  std::map<std::uintptr_t, std::size_t> device_blocks, pinned_blocks;
  std::set<CUstream_st*> streams;
  cudaError_t last_error = cudaSuccess;
};
Device& device() {
  static Device* instance = new Device;
  return *instance;
}

bool holds(const std::map<std::uintptr_t, std::size_t>& blocks, const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return false;
  --after;
  return address < after->first + after->second;
}

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) device().last_error = error;
  return error;
}

void run_first(CUstream_st* stream) {
  const std::function<void()> work = std::move(stream->queue.front());
  stream->queue.pop_front();
  work();
}
void drain(CUstream_st* stream) {
  while (!stream->queue.empty()) run_first(stream);
}
void drain_until(const CUevent_st* event, std::uint64_t record) {
  while (event->reached < record && event->stream != nullptr && !event->stream->queue.empty()) {
    run_first(event->stream);
  }
}
void drain_all() {
  for (CUstream_st* stream : std::set<CUstream_st*>(device().streams)) drain(stream);
}
void drain_blocking() {
  for (CUstream_st* stream : std::set<CUstream_st*>(device().streams)) {
    if (stream->blocking) drain(stream);
  }
}

bool any_capture() {
  for (const CUstream_st* stream : device().streams) {
    if (stream->capture != nullptr) return true;
  }
  return false;
}

// Calls that wait, or that allocate, end a capture.
cudaError_t refuse_in_capture(CUstream_st* stream) {
  if (stream == nullptr ? !any_capture() : stream->capture == nullptr) return cudaSuccess;
  for (CUstream_st* each : device().streams) {
    if (each->capture != nullptr) each->capture_broken = true;
  }
  return report(cudaErrorStreamCaptureUnsupported);
}

bool right_sides(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool to_device = holds(device().device_blocks, to);
  const bool from_device = holds(device().device_blocks, from);
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    default:
      return true;
  }
}

// gpu::launch hands its launches over to their stream from the start.
const bool sink_is_set = [] {
  set_launch_sink([](Launch launch) {
    CUstream_st* stream = launch.stream;
    if (stream != nullptr && stream->capture == nullptr) ++device_stats().eager_launches;
    detail::enqueue(stream, [launch = std::move(launch)] {
      run(launch);
      device_stats().clock_ms += device_options().kernel_ms;
    });
  });
  return true;
}();

}  // namespace

namespace detail {

void enqueue(cudaStream_t stream, std::function<void()> work) {
  const std::lock_guard lock(device().mutex);
  if (stream == nullptr) {
    drain_blocking();
    work();
  } else if (stream->capture != nullptr) {
    stream->capture->work.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
  }
}

bool is_device_memory(const void* p) {
  const std::lock_guard lock(device().mutex);
  return holds(device().device_blocks, p);
}

}  // namespace detail
}  // namespace sim

using sim::device;
using Lock = std::lock_guard<std::recursive_mutex>;

extern "C" {

// --- device ---
cudaError_t cudaGetDeviceCount(int* count) {
  const auto& options = sim::device_options();
  *count = options.start_error == cudaSuccess ? options.count : 0;
  return sim::report(options.start_error);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& options = sim::device_options();
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = options.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = options.minor;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    default:
      return sim::report(cudaErrorInvalidValue);
  }
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof *properties);
  std::strncpy(properties->name, "simulated GPU", sizeof properties->name - 1);
  properties->major = sim::device_options().major;
  properties->minor = sim::device_options().minor;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = sim::device_options().memory_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Lock lock(device().mutex);
  *total_bytes = sim::device_options().memory_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, sim::device_stats().live_bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(device().mutex);
  if (const cudaError_t error = sim::refuse_in_capture(nullptr); error != cudaSuccess) return error;
  sim::drain_all();
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const Lock lock(device().mutex);
  return std::exchange(device().last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  const Lock lock(device().mutex);
  return device().last_error;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorInvalidValue:
      return "invalid argument";
    default:
      return "error of the simulated device";
  }
}

// --- memory ---
cudaError_t cudaMalloc(void** p, size_t bytes) {
  const Lock lock(device().mutex);
  *p = nullptr;
  if (const cudaError_t error = sim::refuse_in_capture(nullptr); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  if (sim::device_stats().live_bytes + bytes > sim::device_options().memory_bytes ||
      posix_memalign(p, sim::kAlignment, bytes) != 0) {
    *p = nullptr;
    return sim::report(cudaErrorMemoryAllocation);
  }
  std::memset(*p, sim::kPoison, bytes);
  device().device_blocks[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  ++sim::device_stats().allocations;
  sim::device_stats().live_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  const Lock lock(device().mutex);
  if (p == nullptr) return cudaSuccess;
  const auto found = device().device_blocks.find(reinterpret_cast<std::uintptr_t>(p));
  if (found == device().device_blocks.end()) return sim::report(cudaErrorInvalidValue);
  sim::drain_all();  // freeing waits for the device
  sim::device_stats().live_bytes -= found->second;
  device().device_blocks.erase(found);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  const Lock lock(device().mutex);
  *p = std::malloc(std::max<size_t>(bytes, 1));
  if (*p == nullptr) return sim::report(cudaErrorMemoryAllocation);
  device().pinned_blocks[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  const Lock lock(device().mutex);
  device().pinned_blocks.erase(reinterpret_cast<std::uintptr_t>(p));
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(device().mutex);
  if (!sim::right_sides(to, from, kind)) return sim::report(cudaErrorInvalidValue);
  const bool pageable_source =
      kind == cudaMemcpyHostToDevice && !sim::holds(device().pinned_blocks, from);
  const bool pageable_target =
      kind == cudaMemcpyDeviceToHost && !sim::holds(device().pinned_blocks, to);
  if (pageable_source) {
    // Such a source has been read when the call returns.
    if (stream != nullptr && stream->capture != nullptr) return sim::refuse_in_capture(stream);
    const auto* first = static_cast<const char*>(from);
    sim::detail::enqueue(stream, [to, copy = std::vector<char>(first, first + bytes)] {
      std::memcpy(to, copy.data(), copy.size());
    });
    return cudaSuccess;
  }
  sim::detail::enqueue(stream, [=] { std::memmove(to, from, bytes); });
  if (pageable_target && stream != nullptr) {
    if (const cudaError_t error = sim::refuse_in_capture(stream); error != cudaSuccess)
      return error;
    sim::drain(stream);
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(device().mutex);
  if (const cudaError_t error = sim::refuse_in_capture(nullptr); error != cudaSuccess) return error;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(device().mutex);
  if (!sim::holds(device().device_blocks, to)) return sim::report(cudaErrorInvalidValue);
  sim::detail::enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

// --- streams and events ---
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(device().mutex);
  *stream = new CUstream_st;
  (*stream)->blocking = flags != cudaStreamNonBlocking;
  device().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(device().mutex);
  sim::drain(stream);
  device().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(device().mutex);
  if (const cudaError_t error = sim::refuse_in_capture(stream); error != cudaSuccess) return error;
  stream == nullptr ? sim::drain_blocking() : sim::drain(stream);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(device().mutex);
  sim::drain_until(event, event->asked);  // queued records point to it
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(device().mutex);
  event->stream = stream;
  const std::uint64_t record = ++event->asked;
  sim::detail::enqueue(stream, [event, record] {
    event->reached = record;
    event->clock_ms = sim::device_stats().clock_ms;
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(device().mutex);
  sim::drain_until(event, event->asked);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(device().mutex);
  return event->reached < event->asked ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(device().mutex);
  sim::detail::enqueue(stream, [event, record = event->asked] { sim::drain_until(event, record); });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t stop) {
  const Lock lock(device().mutex);
  for (const CUevent_st* event : {start, stop}) {
    if (event->asked == 0) return sim::report(cudaErrorInvalidResourceHandle);
    if (event->reached < event->asked) return sim::report(cudaErrorNotReady);
  }
  *ms = static_cast<float>(stop->clock_ms - start->clock_ms);
  return cudaSuccess;
}

// --- graphs ---
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(device().mutex);
  if (stream == nullptr || stream->capture != nullptr) {
    return sim::report(cudaErrorStreamCaptureUnsupported);
  }
  stream->capture = new CUgraph_st;
  stream->capture_broken = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(device().mutex);
  *graph = std::exchange(stream->capture, nullptr);
  if (*graph == nullptr) return sim::report(cudaErrorInvalidValue);
  if (!stream->capture_broken) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return sim::report(cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(device().mutex);
  *status = stream != nullptr && stream->capture != nullptr ? cudaStreamCaptureStatusActive
                                                            : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long) {
  *instance = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
  const Lock lock(device().mutex);
  delete instance;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  const Lock lock(device().mutex);
  ++sim::device_stats().graph_launches;
  for (const auto& work : instance->work) sim::detail::enqueue(stream, work);
  return cudaSuccess;
}

}  // extern "C"
