// Choosing between ways to do the same work by the time that they take on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

namespace onpa::gpu {

/// Whether work on `stream` can be waited for: it is not being captured.
bool can_time(cudaStream_t stream);

/// Milliseconds of one call of `work`, which queues on `stream`: the least of several measurements
/// after a first call that is not measured. Throws Error (kDevice).
float time_ms(cudaStream_t stream, const std::function<void()>& work);

/// The index of the least, unless the first is within 2 % of it: then 0, so that noise alone
/// changes no choice. `ms` is not empty.
int fastest(const std::vector<float>& ms);

}  // namespace onpa::gpu
