// The CUDA run time's allocator as Storage needs it.
#pragma once

#include <cstddef>

namespace onpa::detail {

/// Device memory aligned to 256 bytes; null if there is not enough. Throws Error (kDevice).
void* allocate_device_block(std::size_t bytes);
void free_device_block(void* block);

}  // namespace onpa::detail
