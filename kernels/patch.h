// Patch embedding with patchout: only the kept patches of the spectrogram are gathered, multiplied
// and given their positions; class and distillation tokens come first.
// Source: Koutini et al., "Efficient training of audio transformers with Patchout",
// arXiv:2110.05069.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace onpa::kernels {

/// What both directions read: the spectrograms, which of their patches are kept, and all sizes.
template <class T>
struct PatchInput {
  const T* x;                // (batch, mels, frames)
  const std::int32_t* keep;  // (batch, kept) with row stride keep_stride
  std::int64_t keep_stride;  // 0: one set for the whole batch
  std::int64_t batch, mels, frames, width;
  std::int64_t patch_f, patch_t, stride_f, stride_t;
  std::int64_t grid_f, grid_t;  // patches along mel and time; grid_t may be less than would fit
  std::int64_t table_t, time_offset;  // time_offset + grid_t <= table_t
  std::int64_t kept;                  // >= 1
};

/// y[b, 0] = cls + prefix_pos[0];  y[b, 1] = dist + prefix_pos[1];
/// y[b, 2 + i] = weight . patch(f, t) + bias + freq_pos[:, f] + time_pos[:, time_offset + t]
/// with keep[i] = f * grid_t + t.
template <class T>
struct PatchTokensFwd {
  PatchInput<T> in;
  const T* weight;      // (width, patch_f, patch_t)
  const T* bias;        // (width)
  const T *cls, *dist;  // (width)
  const T* prefix_pos;  // (2, width)
  const T* freq_pos;    // (width, grid_f)
  const T* time_pos;    // (width, table_t)
  T* y;                 // (batch, kept + 2, width)
};
template <class T>
void patch_tokens_fwd(Cpu, const PatchTokensFwd<T>&);
template <class T>
void patch_tokens_fwd(Cuda, const PatchTokensFwd<T>&);

/// Gradients of patch_tokens_fwd into all parameters; a null output is skipped. The spectrogram
/// gets none. Cells of the tables that no kept patch uses get 0 (kAssign) or stay (kAccumulate).
template <class T>
struct PatchTokensBwd {
  PatchInput<T> in;
  const T* dy;  // (batch, kept + 2, width)
  T *dweight, *dbias, *dcls, *ddist, *dprefix_pos, *dfreq_pos, *dtime_pos;  // as the parameters
  GradMode dweight_mode, dbias_mode, dcls_mode, ddist_mode, dprefix_pos_mode, dfreq_pos_mode,
      dtime_pos_mode;
};
template <class T>
void patch_tokens_bwd(Cpu, const PatchTokensBwd<T>&);
template <class T>
void patch_tokens_bwd(Cuda, const PatchTokensBwd<T>&);

}  // namespace onpa::kernels
