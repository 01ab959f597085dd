#include "kernels/cuda/fft.h"

#include <map>
#include <mutex>
#include <utility>

namespace onpa::gpu {
namespace {

cufftHandle make_plan(int points, int batch) {
  cufftHandle plan = 0;
  ONPA_FFT_CHECK(cufftCreate(&plan));
  int n = points, real = points + 2, complex = points / 2 + 1;
  std::size_t work_bytes = 0;
  const cufftResult status = cufftMakePlanMany(plan, 1, &n, &real, 1, real, &complex, 1, complex,
                                               CUFFT_R2C, batch, &work_bytes);
  if (status != CUFFT_SUCCESS) cufftDestroy(plan);
  ONPA_FFT_CHECK(status);
  return plan;
}

}  // namespace

void transform_rows(cudaStream_t stream, int points, int batch, float* rows) {
  static std::mutex mutex;
  // Never destroyed: the driver may go before it.
  static auto* plans = new std::map<std::pair<int, int>, cufftHandle>;
  const std::lock_guard lock(mutex);
  auto found = plans->find({points, batch});
  if (found == plans->end()) {
    found = plans->emplace(std::pair(points, batch), make_plan(points, batch)).first;
  }
  ONPA_FFT_CHECK(cufftSetStream(found->second, stream));
  ONPA_FFT_CHECK(cufftExecR2C(found->second, rows, reinterpret_cast<cufftComplex*>(rows)));
}

}  // namespace onpa::gpu
