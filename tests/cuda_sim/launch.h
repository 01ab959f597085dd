// gpu::launch of the simulator.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <tuple>
#include <utility>

#include "tests/cuda_sim/control.h"

namespace sim::detail {

void send(Launch launch);

/// A stream with the place where it was named, which is the launch's.
struct StreamAt {
  cudaStream_t stream;
  Site site;
  StreamAt(cudaStream_t s, const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : stream(s), site{file, line} {}
};

}  // namespace sim::detail

namespace onpa::gpu {

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t smem_bytes,
            sim::detail::StreamAt stream, Args... args) {
  static_assert((std::is_trivially_copyable_v<Params> && ...));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  sim::detail::send({grid, block, smem_bytes, stream.stream, stream.site,
                     [kernel, bound = std::tuple<Params...>(static_cast<Params>(args)...)] {
                       std::apply(kernel, bound);
                     }});
}

}  // namespace onpa::gpu
