#include "tensor/cuda/event.h"

#include <chrono>
#include <thread>

#include "tensor/device.h"

namespace onpa {
namespace {

// Short waits are not to sleep; what is watched changes slowly.
constexpr int kLooks = 200, kLooksPerCheck = 50;
constexpr auto kSleep = std::chrono::microseconds(20);

}  // namespace

void wait_on_host(cudaEvent_t event) {
  const std::function<void()>& look = detail::device_watch();
  if (!look) {
    ONPA_CUDA_CHECK(cudaEventSynchronize(event));
    return;
  }
  for (int looks = 1;; ++looks) {
    const cudaError_t error = cudaEventQuery(event);
    if (error == cudaSuccess) return;
    if (error != cudaErrorNotReady) ONPA_CUDA_CHECK(error);
    cudaGetLastError();  // or the next launch takes it for its own error
    if (looks % kLooksPerCheck == 0) look();
    if (looks > kLooks) std::this_thread::sleep_for(kSleep);
  }
}

void wait_on_host(cudaStream_t stream) {
  if (!detail::device_watch()) {
    ONPA_CUDA_CHECK(cudaStreamSynchronize(stream));
    return;
  }
  Event event;
  event.record(stream);
  event.wait_on_host();
}

}  // namespace onpa
