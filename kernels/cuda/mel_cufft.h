// The mel front end through cuFFT: the reference beside the fused kernel, and what takes over where
// that one lacks shared memory.
#pragma once

#include <cstddef>

#include "kernels/mel.h"

namespace onpa::kernels {

/// Frames that are transformed at a time: 16 MiB of spectra, which the L2 cache of an A100 holds.
constexpr std::int64_t kMelChunkFrames = 4096;

/// As mel_fwd(Cuda), through cufftExecR2C; `a.workspace` has mel_cufft_workspace_bytes(a, chunk) of
/// device memory, 16-byte aligned. `chunk` is a power of two. Takes any number of bands. The first
/// call for a number of frames makes cuFFT's plan, which allocates: it must not be captured. Throws
/// Error (kDevice, kOutOfMemory).
template <class In, class Out>
void mel_cufft(Cuda, const MelFwd<In, Out>& a, std::int64_t chunk = kMelChunkFrames);
/// Bounded by the chunk; needs no device.
template <class In, class Out>
std::size_t mel_cufft_workspace_bytes(const MelFwd<In, Out>& a,
                                      std::int64_t chunk = kMelChunkFrames);

}  // namespace onpa::kernels
