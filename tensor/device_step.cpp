// device_step.h for a build without CUDA: memory can be planned, nothing can run.
#include "tensor/device_step.h"

#ifndef ONPA_CUDA

#include "tensor/device.h"

namespace onpa {

struct DeviceStep::Graph {};

DeviceStep::DeviceStep(std::function<void()> body, std::shared_ptr<SharedArena> shared)
    : body_(std::move(body)), shared_(std::move(shared)) {}
DeviceStep::~DeviceStep() = default;
void DeviceStep::run() {
  require_cuda();
}
const MemoryPlan& DeviceStep::plan() {
  if (!plan_) plan_ = MemoryPlan::make(body_);
  return *plan_;
}

struct Uploader::State {};
Uploader::Uploader() {
  require_cuda();
}
Uploader::~Uploader() = default;
void Uploader::upload(const Tensor&, const void*, std::size_t) {}

struct Downloader::State {};
Downloader::Downloader() {
  require_cuda();
}
Downloader::~Downloader() = default;
void Downloader::fetch(const Tensor&) {}
std::size_t Downloader::pending() const {
  return 0;
}
bool Downloader::ready() const {
  return false;
}
void Downloader::take(void*, std::size_t) {}

}  // namespace onpa

#endif
