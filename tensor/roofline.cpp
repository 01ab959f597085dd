#include "tensor/roofline.h"

#include <algorithm>
#include <map>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/roofline.h"
#include "tensor/device.h"

namespace onpa {

double Roofline::seconds(double flops, double bytes) const {
  return std::max(flops / (gflops * 1e9), bytes / (gigabytes_per_second * 1e9));
}

Roofline measured_roofline(DeviceKind device, DType dtype) {
  if (device == DeviceKind::kCpu) {
    return {.gflops = kernels::peak_gflops(kernels::thread_count()),
            .gigabytes_per_second = kernels::copy_gigabytes_per_second()};
  }
  static std::map<DType, Roofline> measured;
  const auto known = measured.find(dtype);
  if (known != measured.end()) return known->second;
  return measured[dtype] = detail::measure_cuda_roofline(dtype);
}

#ifndef ONPA_CUDA
namespace detail {
Roofline measure_cuda_roofline(DType) {
  require_cuda();
  return {};
}
}  // namespace detail
#endif

}  // namespace onpa
