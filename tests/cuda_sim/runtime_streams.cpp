// The run time's calls for streams, events and graphs of the simulated device. Work on a stream
// that was created runs as late as the run time's rules allow, when something waits for it, so that
// host code which forgets to wait reads old data.
#include <utility>

#include "tests/cuda_sim/device_state.h"

namespace {
using namespace sim::detail;
}  // namespace

extern "C" {

// --- streams and events ---
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const DeviceLock lock;
  *stream = new CUstream_st;
  (*stream)->blocking = flags != cudaStreamNonBlocking;
  device().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const DeviceLock lock;
  drain(stream);
  device().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const DeviceLock lock;
  if (const cudaError_t error = refuse_in_capture(stream); error != cudaSuccess) return error;
  stream == nullptr ? drain_blocking() : drain(stream);
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
  const DeviceLock lock;
  drain_until(event, event->asked);  // queued records point to it
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const DeviceLock lock;
  event->stream = stream;
  const std::uint64_t record = ++event->asked;
  enqueue(stream, [event, record] {
    event->reached = record;
    event->clock_ms = sim::device_stats().clock_ms;
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const DeviceLock lock;
  drain_until(event, event->asked);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const DeviceLock lock;
  return event->reached < event->asked ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const DeviceLock lock;
  enqueue(stream, [event, record = event->asked] { drain_until(event, record); });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t stop) {
  const DeviceLock lock;
  for (const CUevent_st* event : {start, stop}) {
    if (event->asked == 0) return report(cudaErrorInvalidResourceHandle);
    if (event->reached < event->asked) return report(cudaErrorNotReady);
  }
  *ms = static_cast<float>(stop->clock_ms - start->clock_ms);
  return cudaSuccess;
}

// --- graphs ---
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const DeviceLock lock;
  if (stream == nullptr || stream->capture != nullptr) {
    return report(cudaErrorStreamCaptureUnsupported);
  }
  stream->capture = new CUgraph_st;
  stream->capture_broken = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const DeviceLock lock;
  *graph = std::exchange(stream->capture, nullptr);
  if (*graph == nullptr) return report(cudaErrorInvalidValue);
  if (!stream->capture_broken) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return report(cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const DeviceLock lock;
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
  const DeviceLock lock;
  delete instance;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  const DeviceLock lock;
  ++sim::device_stats().graph_launches;
  for (const auto& work : instance->work) enqueue(stream, work);
  return cudaSuccess;
}

}  // extern "C"
