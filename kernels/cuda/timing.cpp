#include "kernels/cuda/timing.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/check.h"

namespace onpa::gpu {
namespace {

class Event {
 public:
  Event() { ONPA_CUDA_CHECK(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

bool can_time(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) {
    cudaGetLastError();  // the null stream while another one is captured
    return false;
  }
  return status == cudaStreamCaptureStatusNone;
}

float time_ms(cudaStream_t stream, const std::function<void()>& work) {
  constexpr int kMeasurements = 3, kCalls = 4;
  const Event start, stop;
  work();
  float best = std::numeric_limits<float>::infinity();
  for (int i = 0; i < kMeasurements; ++i) {
    ONPA_CUDA_CHECK(cudaEventRecord(start.get(), stream));
    for (int call = 0; call < kCalls; ++call) work();
    ONPA_CUDA_CHECK(cudaEventRecord(stop.get(), stream));
    ONPA_CUDA_CHECK(cudaEventSynchronize(stop.get()));
    float ms = 0;
    ONPA_CUDA_CHECK(cudaEventElapsedTime(&ms, start.get(), stop.get()));
    best = std::min(best, ms / kCalls);
  }
  return best;
}

int fastest(const std::vector<float>& ms) {
  constexpr float kNoise = 0.02f;
  const auto least = std::min_element(ms.begin(), ms.end());
  return *least < (1 - kNoise) * ms.front() ? static_cast<int>(least - ms.begin()) : 0;
}

}  // namespace onpa::gpu
