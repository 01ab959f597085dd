// device_clock.h on the CUDA run time.
#include "tensor/device_clock.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "tensor/device.h"

namespace onpa {
namespace {

cudaStream_t stream() {
  return static_cast<cudaStream_t>(current_cuda().stream);
}

}  // namespace

// Events are kept from start() to start(): making one takes longer than recording it.
struct DeviceClock::State {
  cudaEvent_t zero = nullptr;
  std::vector<cudaEvent_t> events;
  std::size_t used = 0;

  State() { ONPA_CUDA_CHECK(cudaEventCreate(&zero)); }
  ~State() {
    cudaEventDestroy(zero);
    for (cudaEvent_t event : events) cudaEventDestroy(event);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

DeviceClock::DeviceClock() {
  require_cuda();
  state_ = std::make_unique<State>();
}
DeviceClock::~DeviceClock() = default;

void DeviceClock::start() {
  state_->used = 0;
  ONPA_CUDA_CHECK(cudaStreamSynchronize(stream()));
  ONPA_CUDA_CHECK(cudaEventRecord(state_->zero, stream()));
  ONPA_CUDA_CHECK(cudaEventSynchronize(state_->zero));
}

std::size_t DeviceClock::mark() {
  State& s = *state_;
  if (s.used == s.events.size()) {
    cudaEvent_t event = nullptr;
    ONPA_CUDA_CHECK(cudaEventCreate(&event));
    s.events.push_back(event);
  }
  ONPA_CUDA_CHECK(cudaEventRecord(s.events[s.used], stream()));
  return s.used++;
}

std::vector<double> DeviceClock::seconds() {
  const State& s = *state_;
  std::vector<double> out(s.used);
  if (s.used > 0) ONPA_CUDA_CHECK(cudaEventSynchronize(s.events[s.used - 1]));
  for (std::size_t i = 0; i < s.used; ++i) {
    float ms = 0;
    ONPA_CUDA_CHECK(cudaEventElapsedTime(&ms, s.zero, s.events[i]));
    out[i] = static_cast<double>(ms) * 1e-3;
  }
  return out;
}

}  // namespace onpa
