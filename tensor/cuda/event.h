// A point in the work of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"

namespace onpa {

/// Wait for work on the GPU as device.h says.
void wait_on_host(cudaEvent_t event);
void wait_on_host(cudaStream_t stream);

class Event {
 public:
  Event() { ONPA_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { ONPA_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  bool reached() const {
    const cudaError_t error = cudaEventQuery(event_);
    if (error == cudaErrorNotReady) {
      cudaGetLastError();  // or the next launch takes it for its own error
      return false;
    }
    ONPA_CUDA_CHECK(error);
    return true;
  }
  void wait_on_host() { onpa::wait_on_host(event_); }
  void wait_on(cudaStream_t stream) { ONPA_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace onpa
