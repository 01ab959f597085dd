// The simulated device: late streams, events, graphs, and what must be refused.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_sim/device.h"

namespace {

struct Stream {
  Stream() { cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
  ~Stream() { cudaStreamDestroy(stream); }
  cudaStream_t stream = nullptr;
};

template <class T>
T* device_array(std::size_t count) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, count * sizeof(T)), cudaSuccess);
  return static_cast<T*>(p);
}
template <class T>
T* pinned_array(std::size_t count) {
  void* p = nullptr;
  EXPECT_EQ(cudaMallocHost(&p, count * sizeof(T)), cudaSuccess);
  return static_cast<T*>(p);
}

__global__ void nothing() {}

TEST(SimDevice, WorkOfAStreamIsLate) {
  const Stream s;
  int* device = device_array<int>(1);
  int* host = pinned_array<int>(1);
  *host = 1;
  ASSERT_EQ(cudaMemcpyAsync(device, host, sizeof(int), cudaMemcpyHostToDevice, s.stream),
            cudaSuccess);
  *host = 2;  // changed too early: the copy is still to come
  int* back = pinned_array<int>(1);
  *back = 0;
  cudaMemcpyAsync(back, device, sizeof(int), cudaMemcpyDeviceToHost, s.stream);
  EXPECT_EQ(*back, 0);  // read too early
  cudaStreamSynchronize(s.stream);
  EXPECT_EQ(*back, 2);
  cudaFree(device);
  cudaFreeHost(host);
  cudaFreeHost(back);
}

// The clock stands still but for what has run between the events.
TEST(SimDevice, EventsReadTheClockOfTheWork) {
  const Stream s;
  const sim::DeviceOptions before = sim::device_options();
  cudaEvent_t start = nullptr, stop = nullptr;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  float ms = -1;
  EXPECT_NE(cudaEventElapsedTime(&ms, start, stop), cudaSuccess) << "never recorded";
  cudaEventRecord(start, s.stream);
  sim::device_options().kernel_ms = 2.5;
  for (int i = 0; i < 3; ++i) onpa::gpu::launch(nothing, 1, 1, 0, s.stream);
  cudaEventRecord(stop, s.stream);
  EXPECT_EQ(cudaEventElapsedTime(&ms, start, stop), cudaErrorNotReady);
  cudaEventSynchronize(stop);
  EXPECT_EQ(cudaEventElapsedTime(&ms, start, stop), cudaSuccess);
  EXPECT_EQ(ms, 7.5f);
  cudaGetLastError();
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  sim::device_options() = before;
}

TEST(SimDevice, PageableSourceIsReadAtOnce) {
  const Stream s;
  int* device = device_array<int>(1);
  int host = 1, back = 0;
  cudaMemcpyAsync(device, &host, sizeof host, cudaMemcpyHostToDevice, s.stream);
  host = 2;
  cudaMemcpyAsync(&back, device, sizeof back, cudaMemcpyDeviceToHost, s.stream);
  EXPECT_EQ(back, 1);  // a pageable target makes the call wait
  cudaFree(device);
}

TEST(SimDevice, EventsOrderStreams) {
  const Stream a, b;
  int* device = device_array<int>(1);
  int* host = pinned_array<int>(2);
  host[0] = 7;
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  cudaMemsetAsync(device, 0, sizeof(int), b.stream);
  cudaStreamSynchronize(b.stream);
  cudaMemcpyAsync(device, &host[0], sizeof(int), cudaMemcpyHostToDevice, a.stream);
  cudaEventRecord(event, a.stream);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  cudaStreamWaitEvent(b.stream, event, 0);
  cudaMemcpyAsync(&host[1], device, sizeof(int), cudaMemcpyDeviceToHost, b.stream);
  cudaStreamSynchronize(b.stream);  // runs a's copy first
  EXPECT_EQ(host[1], 7);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);

  // Without the event the order between the streams is not kept.
  host[0] = 8;
  cudaMemcpyAsync(device, &host[0], sizeof(int), cudaMemcpyHostToDevice, a.stream);
  cudaMemcpyAsync(&host[1], device, sizeof(int), cudaMemcpyDeviceToHost, b.stream);
  cudaStreamSynchronize(b.stream);
  EXPECT_EQ(host[1], 7);
  cudaEventDestroy(event);
  cudaFree(device);
  cudaFreeHost(host);
}

TEST(SimDevice, GraphsReplayWhatWasCaptured) {
  const Stream s;
  int* device = device_array<int>(2);
  int* host = pinned_array<int>(1);
  *host = 5;
  cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal);
  cudaMemcpyAsync(&device[0], host, sizeof(int), cudaMemcpyHostToDevice, s.stream);
  cudaMemcpyAsync(&device[1], &device[0], sizeof(int), cudaMemcpyDeviceToDevice, s.stream);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaSuccess);
  cudaGraphExec_t instance = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&instance, graph, 0), cudaSuccess);
  cudaGraphDestroy(graph);
  int back = 0;
  cudaStreamSynchronize(s.stream);
  cudaMemcpy(&back, &device[1], sizeof back, cudaMemcpyDeviceToHost);
  EXPECT_EQ(back, -1);  // captured, not run: still the poison of fresh memory
  for (const int value : {5, 6}) {
    *host = value;
    cudaGraphLaunch(instance, s.stream);
    cudaStreamSynchronize(s.stream);
    cudaMemcpy(&back, &device[1], sizeof back, cudaMemcpyDeviceToHost);
    EXPECT_EQ(back, value);
  }
  cudaGraphExecDestroy(instance);
  cudaFree(device);
  cudaFreeHost(host);
}

// A second stream that waits for the captured one takes part, and does its work as late as it may.
TEST(SimDevice, ACaptureForksAndJoins) {
  const Stream s, side;
  int* device = device_array<int>(2);
  int* host = pinned_array<int>(3);
  cudaEvent_t fork = nullptr, join = nullptr;
  cudaEventCreate(&fork);
  cudaEventCreate(&join);
  cudaGraph_t graph = nullptr;
  for (const bool joined : {false, true}) {
    host[0] = 5;
    cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal);
    cudaMemcpyAsync(&device[0], &host[0], sizeof(int), cudaMemcpyHostToDevice, s.stream);
    cudaEventRecord(fork, s.stream);
    ASSERT_EQ(cudaStreamWaitEvent(side.stream, fork, 0), cudaSuccess);
    cudaMemcpyAsync(&device[1], &device[0], sizeof(int), cudaMemcpyDeviceToDevice, side.stream);
    cudaEventRecord(join, side.stream);
    cudaMemcpyAsync(&host[1], &device[1], sizeof(int), cudaMemcpyDeviceToHost, s.stream);
    if (joined) cudaStreamWaitEvent(s.stream, join, 0);
    cudaMemcpyAsync(&host[2], &device[1], sizeof(int), cudaMemcpyDeviceToHost, s.stream);
    EXPECT_EQ(cudaStreamEndCapture(s.stream, &graph),
              joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    EXPECT_EQ(cudaGetLastError(), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
  }
  cudaGraphExec_t instance = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&instance, graph, 0), cudaSuccess);
  cudaGraphDestroy(graph);
  int before = -1;  // the poison of fresh memory
  for (const int value : {5, 6}) {
    host[0] = value;
    cudaGraphLaunch(instance, s.stream);
    cudaStreamSynchronize(s.stream);
    EXPECT_EQ(host[1], before) << "read before the join";
    EXPECT_EQ(host[2], value);
    before = value;
  }
  // The second stream is free again.
  EXPECT_EQ(cudaMemsetAsync(device, 0, sizeof(int), side.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(side.stream), cudaSuccess);
  cudaGraphExecDestroy(instance);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaFree(device);
  cudaFreeHost(host);
}

TEST(SimDevice, ACaptureWaitsForNothingOutside) {
  const Stream s, other;
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, other.stream);
  cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal);
  EXPECT_EQ(cudaStreamWaitEvent(s.stream, event, 0), cudaErrorStreamCaptureIsolation);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
  // An event of a capture is none that could be asked.
  cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal);
  cudaEventRecord(event, s.stream);
  EXPECT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorCapturedEvent);
  cudaGetLastError();
  cudaEventDestroy(event);
}

// Work happens by itself, but not before somebody has had the time to forget to wait.
TEST(SimDevice, AnEventIsReachedAfterSomeQueries) {
  const Stream s;
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, s.stream);
  int queries = 1;
  while (cudaEventQuery(event) == cudaErrorNotReady && queries < 100) ++queries;
  EXPECT_GT(queries, 2);
  EXPECT_LT(queries, 100);
  cudaGetLastError();
  // A wait is for the record that it was told of, whatever the event is used for afterwards.
  const Stream other;
  cudaEventRecord(event, s.stream);
  cudaStreamWaitEvent(other.stream, event, 0);
  cudaEventRecord(event, other.stream);
  EXPECT_EQ(cudaStreamSynchronize(other.stream), cudaSuccess);
  cudaEventDestroy(event);
}

TEST(SimDevice, RefusesInACapture) {
  const Stream s;
  int* device = device_array<int>(1);
  const auto broken = [&](auto call) {
    cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
  };
  int host = 0;
  void* p = nullptr;
  broken([&] { return cudaStreamSynchronize(s.stream); });
  broken([&] { return cudaDeviceSynchronize(); });
  broken([&] { return cudaMalloc(&p, 4); });
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  broken([&] { return cudaEventQuery(event); });
  broken([&] { return cudaEventSynchronize(event); });
  cudaEventDestroy(event);
  broken([&] {
    return cudaMemcpyAsync(device, &host, sizeof host, cudaMemcpyHostToDevice, s.stream);
  });
  cudaFree(device);
}

TEST(SimDevice, ChecksBothSidesOfACopy) {
  int* device = device_array<int>(1);
  int host = 0;
  EXPECT_EQ(cudaMemcpy(&host, &host, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device, &host, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(&host, 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(&host), cudaErrorInvalidValue);
  cudaFree(device);
}

TEST(SimDevice, MemoryRunsOut) {
  const auto before = sim::device_options();
  sim::device_options().memory_bytes = sim::device_stats().live_bytes + 1000;
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 2000), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(cudaMalloc(&p, 500), cudaSuccess);
  cudaFree(p);
  sim::device_options() = before;
}

TEST(SimDevice, OneRequestForMemoryIsRefused) {
  const auto before = sim::device_options();
  sim::device_options().refuse_malloc = sim::device_stats().mallocs + 2;
  sim::device_options().refuse_malloc_host = sim::device_stats().host_mallocs + 1;
  void *first = nullptr, *p = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 4), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&p, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(cudaMalloc(&p, 4), cudaSuccess);
  cudaFree(p);
  cudaFree(first);
  EXPECT_EQ(cudaMallocHost(&p, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(cudaMallocHost(&p, 4), cudaSuccess);
  cudaFreeHost(p);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  sim::device_options() = before;
}

}  // namespace
