// Patch embedding with patchout: only the kept patches of the spectrogram are gathered, multiplied
// and given their positions; class and distillation tokens come first.
// Source: Koutini et al., "Efficient training of audio transformers with Patchout",
// arXiv:2110.05069.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/step_state.h"

namespace onpa::kernels {

/// What both directions read: the spectrograms, which of their patches are kept, and all sizes.
template <class T>
struct PatchInput {
  const T* x;                // (batch, mels, frames)
  const std::int32_t* keep;  // (batch, kept) with row stride keep_stride, distinct cells
  std::int64_t keep_stride;  // 0: one set for the whole batch
  std::int64_t batch, mels, frames, width;
  std::int64_t patch_f, patch_t, stride_f, stride_t;
  std::int64_t grid_f, grid_t;  // patches along mel and time; grid_t may be less than would fit
  std::int64_t table_t, time_offset;                 // time_offset + grid_t <= table_t
  std::int64_t kept;                                 // >= 1
  const std::int32_t* time_offset_device = nullptr;  // (1); where given, replaces time_offset
};

/// y[b, 0] = cls + prefix_pos[0];  y[b, 1] = dist + prefix_pos[1];
/// y[b, 2 + i] = weight . patch(f, t) + bias + freq_pos[:, f] + time_pos[:, time_offset + t]
/// with keep[i] = f * grid_t + t.
template <class T>
struct PatchTokensFwd {
  PatchInput<T> in;
  const T* weight;            // (width, patch_f, patch_t)
  const T* bias;              // (width)
  const T *cls, *dist;        // (width)
  const T* prefix_pos;        // (2, width)
  const T* freq_pos;          // (width, grid_f)
  const T* time_pos;          // (width, table_t)
  T* y;                       // (batch, kept + 2, width)
  void* workspace = nullptr;  // patch_tokens_fwd_workspace_bytes(), 16-byte aligned
};
template <class T>
void patch_tokens_fwd(Cpu, const PatchTokensFwd<T>&);
template <class T>
void patch_tokens_fwd(Cuda, const PatchTokensFwd<T>&);

/// Bytes of PatchTokensFwd::workspace that these arguments need; it is not read.
template <class T>
std::size_t patch_tokens_fwd_workspace_bytes(Cpu, const PatchTokensFwd<T>&) {
  return 0;
}
template <class T>
std::size_t patch_tokens_fwd_workspace_bytes(Cuda, const PatchTokensFwd<T>&);

/// Gradients of patch_tokens_fwd into all parameters; a null output is skipped. The spectrogram
/// gets none. Cells of the tables that no kept patch uses get 0 (kAssign) or stay (kAccumulate).
/// On the GPU a NaN in dy of a class or distillation token reaches dweight too.
template <class T>
struct PatchTokensBwd {
  PatchInput<T> in;
  const T* dy;  // (batch, kept + 2, width)
  T *dweight, *dbias, *dcls, *ddist, *dprefix_pos, *dfreq_pos, *dtime_pos;  // as the parameters
  GradMode dweight_mode, dbias_mode, dcls_mode, ddist_mode, dprefix_pos_mode, dfreq_pos_mode,
      dtime_pos_mode;
  void* workspace = nullptr;  // patch_tokens_bwd_workspace_bytes(), 16-byte aligned
};
template <class T>
void patch_tokens_bwd(Cpu, const PatchTokensBwd<T>&);
template <class T>
void patch_tokens_bwd(Cuda, const PatchTokensBwd<T>&);

/// Bytes of PatchTokensBwd::workspace that these arguments need; it is not read.
template <class T>
std::size_t patch_tokens_bwd_workspace_bytes(Cpu, const PatchTokensBwd<T>&) {
  return 0;
}
template <class T>
std::size_t patch_tokens_bwd_workspace_bytes(Cuda, const PatchTokensBwd<T>&);

/// The patches that a training step keeps: first drop_time columns of the grid are left out, then
/// drop_freq rows, then drop_unstructured of the cells that are left; and the column of the time
/// table where the clip starts. A pure function of (seed, step): every device draws the same.
struct DrawPatchout {
  std::int32_t* keep = nullptr;         // (kept()): cells f * grid_t + t, ascending
  std::int32_t* time_offset = nullptr;  // (1): from 0 to table_t - grid_t; or null
  std::int64_t grid_f = 0, grid_t = 0;
  std::int64_t table_t = 0;  // >= grid_t
  // From 0 to one less than there are of what is dropped.
  std::int64_t drop_time = 0, drop_freq = 0, drop_unstructured = 0;
  std::uint64_t seed = 0, step = 0;
  const StepState* state = nullptr;  // where given, state->step replaces step

  ONPA_HOST_DEVICE std::int64_t kept_columns() const { return grid_t - drop_time; }
  ONPA_HOST_DEVICE std::int64_t kept_rows() const { return grid_f - drop_freq; }
  ONPA_HOST_DEVICE std::int64_t kept() const {
    return kept_columns() * kept_rows() - drop_unstructured;
  }
};
void draw_patchout(Cpu, const DrawPatchout&);
/// Throws Error (kConfig) for a grid of more than 16,384 cells.
void draw_patchout(Cuda, const DrawPatchout&);

}  // namespace onpa::kernels
