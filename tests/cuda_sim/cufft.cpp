// The cuFFT calls that the product makes, on the simulated device: batched transforms of real rows
// of a power of two of points.
#include <cufft.h>

#include <cmath>
#include <complex>
#include <cstdint>
#include <map>
#include <mutex>
#include <numbers>
#include <vector>

#include "tests/cuda_sim/device.h"

namespace {

using Points = std::vector<std::complex<double>>;

struct Plan {
  int points = 0, batch = 0;
  std::int64_t in_distance = 0, out_distance = 0;  // floats; complex numbers
  void* work = nullptr;  // the library may take device memory for a plan: this one always does
  cudaStream_t stream = nullptr;
};
struct Plans {
  std::mutex mutex;
  std::map<cufftHandle, Plan> made;
  cufftHandle next = 1;
};
Plans& plans() {
  static auto* instance = new Plans;
  return *instance;
}

// By halves: even and odd points, then one butterfly for each pair.
void transform(Points& x) {
  const std::size_t n = x.size();
  if (n == 1) return;
  Points even(n / 2), odd(n / 2);
  for (std::size_t i = 0; i < n / 2; ++i) {
    even[i] = x[2 * i];
    odd[i] = x[2 * i + 1];
  }
  transform(even);
  transform(odd);
  for (std::size_t k = 0; k < n / 2; ++k) {
    const std::complex<double> turned =
        std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n)) *
        odd[k];
    x[k] = even[k] + turned;
    x[k + n / 2] = even[k] - turned;
  }
}

void run(const Plan& plan, const float* in, cufftComplex* out) {
  const auto n = static_cast<std::size_t>(plan.points);
  for (std::int64_t row = 0; row < plan.batch; ++row) {
    const float* from = in + row * plan.in_distance;
    Points x(from, from + n);
    transform(x);
    cufftComplex* to = out + row * plan.out_distance;
    for (std::size_t k = 0; k <= n / 2; ++k) {
      to[k] = {static_cast<float>(x[k].real()), static_cast<float>(x[k].imag())};
    }
  }
}

}  // namespace

extern "C" {

cufftResult cufftCreate(cufftHandle* made) {
  const std::lock_guard lock(plans().mutex);
  *made = plans().next++;
  plans().made[*made] = {};
  return CUFFT_SUCCESS;
}
cufftResult cufftDestroy(cufftHandle handle) {
  const std::lock_guard lock(plans().mutex);
  const auto found = plans().made.find(handle);
  if (found == plans().made.end()) return CUFFT_INVALID_PLAN;
  cudaFree(found->second.work);
  plans().made.erase(found);
  return CUFFT_SUCCESS;
}
cufftResult cufftMakePlanMany(cufftHandle handle, int rank, int* n, int* in_embed, int in_stride,
                              int in_distance, int* out_embed, int out_stride, int out_distance,
                              cufftType type, int batch, size_t* work_bytes) {
  const std::lock_guard lock(plans().mutex);
  const auto found = plans().made.find(handle);
  if (found == plans().made.end() || found->second.batch != 0) return CUFFT_INVALID_PLAN;
  if (type != CUFFT_R2C) return CUFFT_INVALID_TYPE;
  // Without both embeddings the library ignores strides and distances.
  const bool whole = rank == 1 && batch > 0 && n[0] > 0 && (n[0] & (n[0] - 1)) == 0 &&
                     in_embed != nullptr && out_embed != nullptr && in_stride == 1 &&
                     out_stride == 1 && in_distance >= n[0] && out_distance >= n[0] / 2 + 1;
  if (!whole) return CUFFT_INVALID_SIZE;
  *work_bytes = 256;
  void* work = nullptr;
  if (cudaMalloc(&work, *work_bytes) != cudaSuccess) return CUFFT_ALLOC_FAILED;
  found->second = {n[0], batch, in_distance, out_distance, work, nullptr};
  return CUFFT_SUCCESS;
}
cufftResult cufftSetStream(cufftHandle handle, cudaStream_t stream) {
  const std::lock_guard lock(plans().mutex);
  const auto found = plans().made.find(handle);
  if (found == plans().made.end()) return CUFFT_INVALID_PLAN;
  found->second.stream = stream;
  return CUFFT_SUCCESS;
}
cufftResult cufftExecR2C(cufftHandle handle, cufftReal* in, cufftComplex* out) {
  const std::lock_guard lock(plans().mutex);
  const auto found = plans().made.find(handle);
  if (found == plans().made.end() || found->second.batch == 0) return CUFFT_INVALID_PLAN;
  const Plan& plan = found->second;
  // In place a row's numbers must lie where its points were.
  const bool in_place = static_cast<const void*>(in) == out;
  if (in_place && plan.in_distance != 2 * plan.out_distance) return CUFFT_INVALID_VALUE;
  const std::int64_t rows = plan.batch - 1;
  const float* last_in = in + rows * plan.in_distance + plan.points - 1;
  const cufftComplex* last_out = out + rows * plan.out_distance + plan.points / 2;
  for (const void* p : {static_cast<const void*>(in), static_cast<const void*>(last_in),
                        static_cast<const void*>(out), static_cast<const void*>(last_out)}) {
    if (!sim::detail::is_device_memory(p)) return CUFFT_INVALID_VALUE;
  }
  if (reinterpret_cast<std::uintptr_t>(out) % sizeof(cufftComplex) != 0) return CUFFT_INVALID_VALUE;
  sim::detail::enqueue(plan.stream, [plan, in, out] { run(plan, in, out); });
  return CUFFT_SUCCESS;
}

}  // extern "C"
