// CUDA's language and device library for a plain C++ compiler: kernels that include this run on
// the CPU, every CUDA thread as a fiber, with the checks of control.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include "tests/cuda_sim/async.h"
#include "tests/cuda_sim/atomics.h"
#include "tests/cuda_sim/barrier.h"
#include "tests/cuda_sim/control.h"
#include "tests/cuda_sim/device_math.h"
#include "tests/cuda_sim/launch.h"
#include "tests/cuda_sim/shared.h"
#include "tests/cuda_sim/warp.h"

#define GPU_FN __device__ __forceinline__
#define __launch_bounds__(...)

// CUDA's headers define these as nothing for a plain compiler, which would silently give every
// thread its own copy.
#undef __shared__
#define __shared__ static_assert(false, "use GPU_SHARED or GPU_DYN_SHARED");
#undef __constant__
#define __constant__ static_assert(false, "constant memory is not used here");

// Globals that the scheduler rewrites whenever another thread goes on.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;
