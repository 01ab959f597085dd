// A sign of life of the kernels, for what watches that a program gets on.
#pragma once

#include <cstdint>

namespace onpa::kernels {

/// Grows whenever a thread calls parallel_for, so with every kernel of some size; by how much is
/// not exact. From any thread.
std::uint64_t job_count();

}  // namespace onpa::kernels
