#include "kernels/mel.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mel_cufft.h"
#include "kernels/cuda/mel_fft.cuh"
#include "kernels/cuda/mel_wave.cuh"
#include "kernels/scalar.h"

namespace onpa::kernels {
namespace {

using gpu::kWarp;

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMaxFrames = 16;              // of a block
constexpr int kTilePitch = kMaxFrames + 1;  // odd: lanes write a column of the tile
// Samples that a block stages at most, unless one frame alone takes more.
constexpr std::int64_t kMaxSpan = 8192;
// Shared memory of a block on every GPU from compute capability 8.0 on.
constexpr std::size_t kMaxSmemBytes = 99 << 10;

// How a block sees its part of a clip.
struct Frames {
  int begin, width;  // samples [begin, begin + width) of a frame may have weight, pairs whole
  int per_block, groups;
  int span;  // samples that a block stages
};

template <class In, class Out>
Frames frames_of(const MelFwd<In, Out>& a) {
  const std::int64_t left = (kMelFft - a.win) / 2, begin = left / 8 * 8;
  const std::int64_t width = (left + a.win + 7) / 8 * 8 - begin;
  const std::int64_t fit = 1 + (kMaxSpan - kMelFft) / a.hop;
  const auto per_block = static_cast<int>(fit < kMaxFrames ? fit : kMaxFrames);
  return {static_cast<int>(begin), static_cast<int>(width), per_block,
          static_cast<int>(gpu::blocks_for(a.frames, per_block)),
          static_cast<int>((per_block - 1) * a.hop + width)};
}

// y[i]: pre-emphasised sample first + i, for i < count.
template <class In>
GPU_FN void stage_samples(const In* x, std::int64_t samples, float c, std::int64_t first, int count,
                          float* y) {
  for (int i = threadIdx.x; i < count; i += kThreads) {
    y[i] = gpu::pre_emphasised(x, samples, c, first + i);
  }
}

// Half of the window (the split of the spectrum averages two points), zero around it.
GPU_FN void stage_window(int win, const Frames& f, float* window) {
  const int left = static_cast<int>(kMelFft - win) / 2;
  for (int i = threadIdx.x; i < f.width; i += kThreads) {
    window[i] = 0.5f * gpu::hann(win, f.begin + i - left);
  }
}

// First pass of the transform on a windowed frame; `samples` is its sample `begin`.
GPU_FN void load_and_transform(const float* samples, const float* window, const Frames& f,
                               float2* points) {
  const int lane = threadIdx.x % kWarp;
  const bool paired = reinterpret_cast<std::uintptr_t>(samples) % sizeof(float2) == 0;
#pragma unroll 1  // both at once spill
  for (int half = 0; half < 2; ++half) {
    const int j = lane + kWarp * half;
    float2 x[8];
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int at = 2 * (j + 64 * r) - f.begin;
      x[r] = make_float2(0, 0);
      if (at >= 0 && at < f.width) {
        const float2 w = *reinterpret_cast<const float2*>(window + at);
        const float2 s = paired ? *reinterpret_cast<const float2*>(samples + at)
                                : make_float2(samples[at], samples[at + 1]);
        x[r] = make_float2(w.x * s.x, w.y * s.y);
      }
    }
    gpu::fft_first(x, j, points);
  }
  __syncwarp();
}

// Bands of one frame from its power spectrum, log, masks and scale, into a column of the tile.
template <class In, class Out>
GPU_FN void fill_column(const MelFwd<In, Out>& a, const MelMask& mask, int frame,
                        const float* power, float* column) {
  const bool frame_masked = frame >= mask.t0 && frame < mask.t0 + mask.t_len;
  const float scale = 1.0f / a.std;
  for (int m = threadIdx.x % kWarp; m < a.mels; m += kWarp) {
    const int first = a.bank.first[m], begin = a.bank.offset[m];
    const int bins = a.bank.offset[m + 1] - begin;
    const float* weight = a.bank.weight + begin;
    float sum = 0;
    for (int k = 0; k < bins; ++k) sum = fmaf(weight[k], power[gpu::fft_place(first + k)], sum);
    const bool masked = frame_masked || (m >= mask.f0 && m < mask.f0 + mask.f_len);
    column[m * kTilePitch] = gpu::mel_cell(sum, masked, a.log_offset, a.mean, scale);
  }
}

// A block has per_block frames of a clip, whose samples it stages once; a warp takes a frame at a
// time. The tile turns columns into rows of y.
template <class In, class Out>
__global__ void __launch_bounds__(kThreads, 2) mel_kernel(MelFwd<In, Out> a, Frames f) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  auto* samples = carve.take<float>(static_cast<std::size_t>(f.span));
  auto* window = carve.take<float>(static_cast<std::size_t>(f.width));
  auto* points = carve.take<float2>(kWarps * gpu::kFftPlaces);
  auto* tile = carve.take<float>(static_cast<std::size_t>(a.mels * kTilePitch));
  const int warp = threadIdx.x / kWarp;
  const std::int64_t clip = blockIdx.x / f.groups;
  const int t0 = static_cast<int>(blockIdx.x - clip * f.groups) * f.per_block;
  const int used = static_cast<int>(min(std::int64_t{f.per_block}, a.frames - t0));

  stage_samples(a.wave + clip * a.samples, a.samples, a.preemphasis,
                t0 * a.hop + f.begin - gpu::kMelPad, f.span, samples);
  stage_window(static_cast<int>(a.win), f, window);
  __syncthreads();

  const MelMask mask = a.mask != nullptr ? a.mask[clip] : MelMask{};
  points += warp * gpu::kFftPlaces;
  for (int t = warp; t < used; t += kWarps) {
    load_and_transform(samples + t * a.hop, window, f, points);
    gpu::fft_rest(points);
    __syncwarp();
    const float* power = gpu::split_power(points);
    __syncwarp();
    fill_column(a, mask, t0 + t, power, tile + t);
    __syncwarp();
  }
  __syncthreads();

  const int t = threadIdx.x % kMaxFrames;
  if (t >= used) return;
  for (std::int64_t m = threadIdx.x / kMaxFrames; m < a.mels; m += kThreads / kMaxFrames) {
    a.y[(clip * a.mels + m) * a.frames + t0 + t] = static_cast<Out>(tile[m * kTilePitch + t]);
  }
}

template <class In, class Out>
std::size_t smem_bytes(const MelFwd<In, Out>& a, const Frames& f) {
  return gpu::carved_bytes<float>(static_cast<std::size_t>(f.span)) +
         gpu::carved_bytes<float>(static_cast<std::size_t>(f.width)) +
         gpu::carved_bytes<float2>(kWarps * gpu::kFftPlaces) +
         gpu::carved_bytes<float>(static_cast<std::size_t>(a.mels * kTilePitch));
}

}  // namespace

template <class In, class Out>
std::size_t mel_fwd_workspace_bytes(Cuda, const MelFwd<In, Out>& a) {
  return smem_bytes(a, frames_of(a)) <= kMaxSmemBytes ? 0 : mel_cufft_workspace_bytes(a);
}

template <class In, class Out>
void mel_fwd(Cuda dev, const MelFwd<In, Out>& a) {
  const Frames f = frames_of(a);
  const std::size_t smem = smem_bytes(a, f);
  if (smem > kMaxSmemBytes) {
    mel_cufft(dev, a);
    return;
  }
  gpu::launch(mel_kernel<In, Out>, static_cast<unsigned>(a.batch * f.groups), kThreads, smem,
              gpu::stream_of(dev), a, f);
}

#define INSTANTIATE(In, Out)                                                  \
  template std::size_t mel_fwd_workspace_bytes(Cuda, const MelFwd<In, Out>&); \
  template void mel_fwd(Cuda, const MelFwd<In, Out>&)
INSTANTIATE(float, float);
INSTANTIATE(float, bf16);
INSTANTIATE(std::int16_t, float);
INSTANTIATE(std::int16_t, bf16);
#undef INSTANTIATE

}  // namespace onpa::kernels
