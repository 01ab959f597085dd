#include "tests/cuda_sim/device_state.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>

#include "tests/cuda_sim/control.h"

namespace sim {

namespace {

DeviceOptions from_environment() {
  DeviceOptions o;
  const char* value = std::getenv("SIM_REFUSE");
  if (value == nullptr) return o;
  const std::string text = value;
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::size_t which =
      std::strtoull(text.c_str() + colon + (colon < text.size()), nullptr, 10);
  const std::string call = text.substr(0, colon);
  if (which == 0 || (call != "cudaMalloc" && call != "cudaMallocHost")) {
    throw Error("SIM_REFUSE=" + text + " is not known");
  }
  (call == "cudaMalloc" ? o.refuse_malloc : o.refuse_malloc_host) = which;
  return o;
}

}  // namespace

DeviceOptions& device_options() {
  static DeviceOptions options = from_environment();
  return options;
}
DeviceStats& device_stats() {
  static DeviceStats stats;
  return stats;
}

namespace detail {
namespace {

// At work that waits for another process.
constexpr auto kBetweenLooks = std::chrono::microseconds(50);

// Whether the first item is done, and gone.
bool try_first(CUstream_st* stream) {
  if (!stream->queue.front()()) return false;
  stream->queue.pop_front();
  return true;
}

void run_first(CUstream_st* stream) {
  while (!try_first(stream)) std::this_thread::sleep_for(kBetweenLooks);
}

bool any_capture() {
  for (const CUstream_st* stream : device().streams) {
    if (stream->capture != nullptr) return true;
  }
  return false;
}

// gpu::launch hands its launches over to their stream from the start.
const bool sink_is_set = [] {
  set_launch_sink([](Launch launch) {
    CUstream_st* stream = launch.stream;
    if (stream != nullptr && stream->capture == nullptr) ++device_stats().eager_launches;
    enqueue(stream, [launch = std::move(launch)] {
      run(launch);
      device_stats().clock_ms += device_options().kernel_ms;
    });
  });
  return true;
}();

}  // namespace

Device& device() {
  static Device* instance = new Device;
  return *instance;
}

bool holds(const Blocks& blocks, const void* p) {
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

void drain(CUstream_st* stream) {
  while (!stream->queue.empty()) run_first(stream);
}
void drain_until(const Record& record) {
  while (!record.reached) run_first(record.stream);
}
bool advance_until(const Record& record) {
  while (!record.reached) {
    if (!try_first(record.stream)) return false;
  }
  return true;
}
void drain_all() {
  for (CUstream_st* stream : std::set<CUstream_st*>(device().streams)) drain(stream);
}
void drain_blocking() {
  for (CUstream_st* stream : std::set<CUstream_st*>(device().streams)) {
    if (stream->blocking) drain(stream);
  }
}

cudaError_t refuse_in_capture(CUstream_st* stream) {
  if (stream == nullptr ? !any_capture() : stream->capture == nullptr) return cudaSuccess;
  for (CUstream_st* each : device().streams) {
    if (each->capture != nullptr) each->capture->broken = true;
  }
  return report(cudaErrorStreamCaptureUnsupported);
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  enqueue_step(stream, [work = std::move(work)] {
    work();
    return true;
  });
}

void enqueue_step(cudaStream_t stream, Step work) {
  const DeviceLock lock;
  if (stream == nullptr) {
    drain_blocking();
    while (!work()) std::this_thread::sleep_for(kBetweenLooks);
  } else if (stream->capture != nullptr) {
    (*stream->capture->branches)[stream->branch].push_back({.work = std::move(work)});
  } else {
    stream->queue.push_back(std::move(work));
  }
}

bool is_device_memory(const void* p) {
  const DeviceLock lock;
  return holds(device().device_blocks, p);
}

}  // namespace detail
}  // namespace sim
