// Patch embedding with patchout.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/autograd.h"
#include "tensor/tensor.h"

namespace onpa::ops {

/// Which grid cells become tokens, and how the patches lie on the spectrogram.
struct PatchGrid {
  std::int64_t stride_f = 10, stride_t = 10;
  std::int64_t grid_f = 0, grid_t = 0;  // cells along mel and time
  std::int64_t time_offset = 0;         // column of the time table for t = 0
  std::vector<std::int32_t> keep;       // kept cells f * grid_t + t, ascending; empty: all
  // The same in memory of x's device, as kernels::draw_patchout writes them: where defined they
  // replace `keep` and `time_offset`, and their values are not checked.
  Tensor keep_device = {};         // (kept) i32
  Tensor time_offset_device = {};  // (1) i32
};

/// Class and distillation tokens, then the kept patches with their positions added.
///   x           (B, F, T)        log-mel; gets no gradient
///   weight      (C, 1, PF, PT)   bias (C)
///   cls, dist   (1, 1, C)        prefix_pos (1, 2, C)
///   freq_pos    (1, C, grid_f, 1)
///   time_pos    (1, C, 1, T_table), time_offset + grid_t <= T_table
/// Returns (B, kept + 2, C). Differentiable in all but x. Throws onpa::Error naming the tensor and
/// both shapes on a mismatch. Source: arXiv:2110.05069.
struct PatchParams {
  Tensor weight, bias, cls, dist, prefix_pos, freq_pos, time_pos;
};
Tensor patch_tokens(const Tensor& x, const PatchParams& params, const PatchGrid& grid);

}  // namespace onpa::ops
