// The run time's calls for streams, events and graphs of the simulated device. Work on a stream
// that was created runs as late as the run time's rules allow, when something waits for it, so that
// host code which forgets to wait reads old data.
#include <utility>

#include "tests/cuda_sim/device_state.h"

namespace {

using namespace sim::detail;

// An event that was not reached is, at the earliest, after as many queries.
constexpr int kLateQueries = 3;

// The stream takes part in the capture from here on, if it does not yet.
cudaError_t wait_in_capture(CUstream_st* stream, const CUevent_st* event) {
  CUgraph_st* graph = nullptr;
  for (const CUstream_st* each : device().streams) {
    if (each->capture != nullptr && each->capture->id == event->capture) graph = each->capture;
  }
  if (graph == nullptr || stream == nullptr) return report(cudaErrorCapturedEvent);
  if (stream->capture != nullptr && stream->capture != graph) {
    stream->capture->broken = graph->broken = true;
    return report(cudaErrorStreamCaptureMerge);
  }
  if (stream->capture == nullptr) {
    stream->capture = graph;
    stream->branch = graph->branches->size();
    graph->branches->emplace_back();
  }
  if (stream->branch != event->branch) {
    (*graph->branches)[stream->branch].push_back(
        {.work = {}, .branch = event->branch, .position = event->position});
  }
  return cudaSuccess;
}

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
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
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
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const DeviceLock lock;
  event->queries = 0;
  if (stream != nullptr && stream->capture != nullptr) {
    event->capture = stream->capture->id;
    event->branch = stream->branch;
    event->position = (*stream->capture->branches)[stream->branch].size();
    return cudaSuccess;
  }
  event->capture = 0;
  event->last = std::make_shared<Record>(Record{.stream = stream});
  enqueue(stream, [record = event->last] {
    record->reached = true;
    record->clock_ms = sim::device_stats().clock_ms;
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const DeviceLock lock;
  if (const cudaError_t error = refuse_in_capture(nullptr); error != cudaSuccess) return error;
  if (event->capture != 0) return report(cudaErrorCapturedEvent);
  if (event->last) drain_until(*event->last);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const DeviceLock lock;
  if (const cudaError_t error = refuse_in_capture(nullptr); error != cudaSuccess) return error;
  if (event->capture != 0) return report(cudaErrorCapturedEvent);
  // Who asks again and again will see it happen.
  if (!event->last) return cudaSuccess;
  if (!event->last->reached && ++event->queries > kLateQueries) advance_until(*event->last);
  return event->last->reached ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const DeviceLock lock;
  if (event->capture != 0) return wait_in_capture(stream, event);
  if (!event->last) return cudaSuccess;
  if (stream != nullptr && stream->capture != nullptr) {
    // A graph cannot wait for what was queued outside of it.
    stream->capture->broken = true;
    return report(cudaErrorStreamCaptureIsolation);
  }
  enqueue_step(stream, [record = event->last] { return advance_until(*record); });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t stop) {
  const DeviceLock lock;
  for (const CUevent_st* event : {start, stop}) {
    if (!event->last) return report(cudaErrorInvalidResourceHandle);
    if (!event->last->reached) return report(cudaErrorNotReady);
  }
  *ms = static_cast<float>(stop->last->clock_ms - start->last->clock_ms);
  return cudaSuccess;
}

// --- graphs ---
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const DeviceLock lock;
  if (stream == nullptr || stream->capture != nullptr) {
    return report(cudaErrorStreamCaptureUnsupported);
  }
  stream->capture = new CUgraph_st{.id = ++device().captures};
  stream->branch = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const DeviceLock lock;
  *graph = nullptr;
  if (stream->capture == nullptr) return report(cudaErrorInvalidValue);
  if (stream->branch != 0) return report(cudaErrorStreamCaptureUnmatched);
  CUgraph_st* captured = stream->capture;
  for (CUstream_st* each : device().streams) {
    if (each->capture == captured) each->capture = nullptr;
  }
  if (!captured->broken && all_joined(*captured->branches)) {
    *graph = captured;
    return cudaSuccess;
  }
  const bool broken = captured->broken;
  delete captured;
  return report(broken ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const DeviceLock lock;
  *status = stream != nullptr && stream->capture != nullptr ? cudaStreamCaptureStatusActive
                                                            : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long) {
  *instance = new CUgraphExec_st{graph->branches};
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
  enqueue_step(stream, launch_of(*instance));
  return cudaSuccess;
}

}  // extern "C"
