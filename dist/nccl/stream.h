// The stream of the collectives, and the points where it meets the stream of the kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <vector>

#include "tensor/cuda/event.h"

namespace onpa::dist::nccl {

/// A stream whose kernels start before those of others that are ready too.
class Stream {
 public:
  Stream() {
    int least = 0, greatest = 0;
    ONPA_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    ONPA_CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  void synchronize() const { wait_on_host(stream_); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Events used again and again.
class EventPool {
 public:
  /// Comes back when the last handle is gone; the pool has to live until then.
  std::shared_ptr<Event> get() {
    std::unique_ptr<Event> event;
    if (idle_.empty()) {
      event = std::make_unique<Event>();
    } else {
      event = std::move(idle_.back());
      idle_.pop_back();
    }
    return {event.release(), [this](Event* used) { idle_.emplace_back(used); }};
  }

 private:
  std::vector<std::unique_ptr<Event>> idle_;
};

}  // namespace onpa::dist::nccl
