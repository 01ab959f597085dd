// device_clock.h for a build without CUDA.
#include "tensor/device_clock.h"

#ifndef ONPA_CUDA

#include "tensor/device.h"

namespace onpa {

struct DeviceClock::State {};
DeviceClock::DeviceClock() {
  require_cuda();
}
DeviceClock::~DeviceClock() = default;
void DeviceClock::start() {}
std::size_t DeviceClock::mark() {
  return 0;
}
std::vector<double> DeviceClock::seconds() {
  return {};
}

}  // namespace onpa

#endif
