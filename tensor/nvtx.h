// Ranges that NVIDIA's tools show on their time lines, in the NVTX domain "onpa".
#pragma once

namespace onpa::detail {

/// Whether a tool that shows ranges is attached to this process; never in a build without CUDA.
bool nvtx_attached();
/// Begins a range of this thread, and ends the one that began last; only where a tool is attached.
void nvtx_push(const char* name);
void nvtx_pop();

}  // namespace onpa::detail
