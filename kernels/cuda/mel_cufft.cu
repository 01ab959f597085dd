// A chunk of frames at a time: one kernel windows them, cuFFT transforms them, another adds up the
// bands.
#include "kernels/cuda/mel_cufft.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/fft.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mel_wave.cuh"
#include "kernels/scalar.h"

namespace onpa::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kPoints = static_cast<int>(kMelFft), kSpectrum = kPoints / 2 + 1;
constexpr int kBins = kPoints / 2;  // no band reaches the last, Nyquist's
constexpr int kRowFloats = 2 * kSpectrum;
constexpr int kTile = 16;          // frames of a block of the second kernel
constexpr int kPitch = kTile + 1;  // odd: lanes write a frame's bins and read a bin's frames

// Rows of a chunk: frames [first, end) of the batch, and what rows the plan has beyond them.
struct Rows {
  float* memory;
  std::int64_t first, end;
  std::int64_t frames;  // of a clip
};

// A block windows the frame of its row; rows without a frame become zeros.
template <class In>
__global__ void __launch_bounds__(kThreads)
    mel_frames_kernel(Rows rows, const In* wave, std::int64_t samples, std::int64_t hop, int win,
                      float preemphasis) {
  const std::int64_t frame = rows.first + blockIdx.x, clip = frame / rows.frames;
  const std::int64_t begin = (frame - clip * rows.frames) * hop - gpu::kMelPad;
  const int left = (kPoints - win) / 2;
  float* row = rows.memory + static_cast<std::int64_t>(blockIdx.x) * kRowFloats;
  for (int i = threadIdx.x; i < kPoints; i += kThreads) {
    float value = 0;
    if (frame < rows.end && i >= left && i < left + win) {
      value = gpu::hann(win, i - left) *
              gpu::pre_emphasised(wave + clip * samples, samples, preemphasis, begin + i);
    }
    row[i] = value;
  }
}

template <class Out>
struct Bands {
  Out* y;
  MelBankView bank;
  const MelMask* mask;
  std::int64_t mels;
  float log_offset, mean, scale;
};

template <class Out>
__global__ void __launch_bounds__(kThreads) mel_bands_kernel(Rows rows, Bands<Out> b) {
  GPU_SHARED(power, float[kBins * kPitch]);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const auto* spectra = reinterpret_cast<const float2*>(rows.memory);
  for (int i = threadIdx.x; i < kTile * kBins; i += kThreads) {
    const int t = i / kBins, k = i % kBins;
    if (rows.first + row + t >= rows.end) break;
    const float2 z = spectra[(row + t) * kSpectrum + k];
    power[k * kPitch + t] = fmaf(z.x, z.x, z.y * z.y);
  }
  __syncthreads();

  const int t = threadIdx.x % kTile;
  const std::int64_t frame = rows.first + row + t;
  if (frame >= rows.end) return;
  const std::int64_t clip = frame / rows.frames, column = frame - clip * rows.frames;
  const MelMask mask = b.mask != nullptr ? b.mask[clip] : MelMask{};
  const bool frame_masked = column >= mask.t0 && column < mask.t0 + mask.t_len;
  for (std::int64_t m = threadIdx.x / kTile; m < b.mels; m += kThreads / kTile) {
    const int first = b.bank.first[m], begin = b.bank.offset[m];
    const int bins = b.bank.offset[m + 1] - begin;
    float sum = 0;
    for (int k = 0; k < bins; ++k) {
      sum = fmaf(b.bank.weight[begin + k], power[(first + k) * kPitch + t], sum);
    }
    const bool masked = frame_masked || (m >= mask.f0 && m < mask.f0 + mask.f_len);
    b.y[(clip * b.mels + m) * rows.frames + column] =
        static_cast<Out>(gpu::mel_cell(sum, masked, b.log_offset, b.mean, b.scale));
  }
}

// Rows of the plan for `left` frames: powers of two, so that clips of any length share few plans.
std::int64_t plan_rows(std::int64_t left, std::int64_t chunk) {
  return std::min(chunk,
                  static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(left))));
}

}  // namespace

template <class In, class Out>
std::size_t mel_cufft_workspace_bytes(const MelFwd<In, Out>& a, std::int64_t chunk) {
  const std::int64_t total = a.batch * a.frames;
  return total == 0
             ? 0
             : static_cast<std::size_t>(plan_rows(total, chunk)) * kRowFloats * sizeof(float);
}

template <class In, class Out>
void mel_cufft(Cuda dev, const MelFwd<In, Out>& a, std::int64_t chunk) {
  const cudaStream_t stream = gpu::stream_of(dev);
  const Bands<Out> bands = {.y = a.y,
                            .bank = a.bank,
                            .mask = a.mask,
                            .mels = a.mels,
                            .log_offset = a.log_offset,
                            .mean = a.mean,
                            .scale = 1.0f / a.std};
  Rows rows = {
      .memory = static_cast<float*>(a.workspace), .first = 0, .end = 0, .frames = a.frames};
  const std::int64_t total = a.batch * a.frames;
  ONPA_CHECK(rows.memory != nullptr || total == 0, "mel: no workspace for cuFFT");
  for (; rows.first < total; rows.first += chunk) {
    const std::int64_t left = total - rows.first, count = plan_rows(left, chunk);
    rows.end = rows.first + std::min(left, count);
    gpu::launch(mel_frames_kernel<In>, static_cast<unsigned>(count), kThreads, 0, stream, rows,
                a.wave, a.samples, a.hop, static_cast<int>(a.win), a.preemphasis);
    gpu::transform_rows(stream, kPoints, static_cast<int>(count), rows.memory);
    gpu::launch(mel_bands_kernel<Out>, gpu::blocks_for(count, kTile), kThreads, 0, stream, rows,
                bands);
  }
}

#define INSTANTIATE(In, Out)                                           \
  template void mel_cufft(Cuda, const MelFwd<In, Out>&, std::int64_t); \
  template std::size_t mel_cufft_workspace_bytes(const MelFwd<In, Out>&, std::int64_t)
INSTANTIATE(float, float);
INSTANTIATE(float, bf16);
INSTANTIATE(std::int16_t, float);
INSTANTIATE(std::int16_t, bf16);
#undef INSTANTIATE

}  // namespace onpa::kernels
