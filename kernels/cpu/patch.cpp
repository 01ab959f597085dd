#include "kernels/patch.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/gemm.h"
#include "kernels/philox.h"

namespace onpa::kernels {
namespace {

// Patches per panel in the forward pass, one product on the calling thread: 192 KiB of 16 x 16
// floats stay in L2.
constexpr std::int64_t kForwardRows = 192;
// Patches per panel in the backward pass, where one product over a panel uses all threads.
constexpr std::int64_t kBackwardRows = 512;
// Channels per task where the position tables are walked: their rows stay in L1.
constexpr std::int64_t kChannels = 16;

template <class T>
std::int64_t first_time_column(const PatchInput<T>& in) {
  return in.time_offset_device != nullptr ? *in.time_offset_device : in.time_offset;
}

// Copies the patches keep[0..rows) of one spectrogram into the rows of `panel`.
template <class T>
void gather_patches(const PatchInput<T>& in, std::int64_t sample, const std::int32_t* keep,
                    std::int64_t rows, T* panel) {
  const T* x = in.x + sample * in.mels * in.frames;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t f = keep[i] / in.grid_t, t = keep[i] % in.grid_t;
    const T* corner = x + f * in.stride_f * in.frames + t * in.stride_t;
    for (std::int64_t r = 0; r < in.patch_f; ++r, panel += in.patch_t) {
      std::copy_n(corner + r * in.frames, in.patch_t, panel);
    }
  }
}

// y[i, :] += freq_pos[:, f] + time_pos[:, t]. The tables hold a channel per row, so a block of
// channels is walked for all rows of the panel before the next.
template <class T>
void add_positions(const PatchTokensFwd<T>& a, const std::int32_t* keep, std::int64_t rows, T* y) {
  const PatchInput<T>& in = a.in;
  const std::int64_t offset = first_time_column(in);
  for (std::int64_t c0 = 0; c0 < in.width; c0 += kChannels) {
    const std::int64_t c1 = std::min(in.width, c0 + kChannels);
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* freq = a.freq_pos + keep[i] / in.grid_t;
      const T* time = a.time_pos + offset + keep[i] % in.grid_t;
      for (std::int64_t c = c0; c < c1; ++c) {
        y[i * in.width + c] += freq[c * in.grid_f] + time[c * in.table_t];
      }
    }
  }
}

template <class T>
void forward_panel(const PatchTokensFwd<T>& a, std::int64_t sample, std::int64_t first) {
  const PatchInput<T>& in = a.in;
  thread_local std::vector<T> panel;
  const std::int64_t area = in.patch_f * in.patch_t, rows = std::min(kForwardRows, in.kept - first);
  const std::int32_t* keep = in.keep + sample * in.keep_stride + first;
  T* y = a.y + (sample * (in.kept + 2) + 2 + first) * in.width;
  panel.resize(static_cast<std::size_t>(kForwardRows * area));
  gather_patches(in, sample, keep, rows, panel.data());
  gemm<T>(Cpu{}, {.trans_b = Trans::kYes,
                  .m = rows,
                  .n = in.width,
                  .k = area,
                  .a = panel.data(),
                  .lda = area,
                  .b = a.weight,
                  .ldb = area,
                  .c = y,
                  .ldc = in.width,
                  .bias = a.bias});
  add_positions(a, keep, rows, y);
}

// dweight (+)= dy^T patches, one panel after the other.
template <class T>
void weight_gradient(const PatchTokensBwd<T>& a) {
  const PatchInput<T>& in = a.in;
  const std::int64_t area = in.patch_f * in.patch_t;
  thread_local std::vector<T> scratch;
  scratch.resize(static_cast<std::size_t>(std::min(kBackwardRows, in.kept) * area));
  T* const panel = scratch.data();
  bool add = a.dweight_mode == GradMode::kAccumulate;
  for (std::int64_t sample = 0; sample < in.batch; ++sample) {
    for (std::int64_t first = 0; first < in.kept; first += kBackwardRows, add = true) {
      const std::int64_t rows = std::min(kBackwardRows, in.kept - first);
      const std::int32_t* keep = in.keep + sample * in.keep_stride + first;
      parallel_for(rows, 32, [&](std::int64_t begin, std::int64_t end) {
        gather_patches(in, sample, keep + begin, end - begin, panel + begin * area);
      });
      gemm<T>(Cpu{}, {.trans_a = Trans::kYes,
                      .m = in.width,
                      .n = area,
                      .k = rows,
                      .a = a.dy + (sample * (in.kept + 2) + 2 + first) * in.width,
                      .lda = in.width,
                      .b = panel,
                      .ldb = area,
                      .c = a.dweight,
                      .ldc = area,
                      .beta = static_cast<T>(add ? 1 : 0)});
    }
  }
  if (!add) std::fill_n(a.dweight, in.width * area, T{0});
}

template <class T>
void put(T* out, std::int64_t index, GradMode mode, T value) {
  if (out) out[index] = mode == GradMode::kAccumulate ? out[index] + value : value;
}

// Everything that is added to tokens: their gradients are sums of dy over the tokens that use them,
// taken in the order of the tokens. One call owns channels [c0, c1).
template <class T>
void position_gradients(const PatchTokensBwd<T>& a, std::int64_t c0, std::int64_t c1) {
  const PatchInput<T>& in = a.in;
  const std::int64_t n = c1 - c0, offset = first_time_column(in);
  thread_local std::vector<T> scratch;
  scratch.assign(static_cast<std::size_t>((2 + in.grid_f + in.grid_t) * n), T{0});
  T *prefix = scratch.data(), *freq = prefix + 2 * n, *time = freq + in.grid_f * n;
  for (std::int64_t sample = 0; sample < in.batch; ++sample) {
    const std::int32_t* keep = in.keep + sample * in.keep_stride;
    const T* dy = a.dy + sample * (in.kept + 2) * in.width + c0;
    for (std::int64_t c = 0; c < n; ++c) prefix[c] += dy[c];
    for (std::int64_t c = 0; c < n; ++c) prefix[n + c] += dy[in.width + c];
    for (std::int64_t i = 0; i < in.kept; ++i) {
      const T* row = dy + (2 + i) * in.width;
      T* f = freq + keep[i] / in.grid_t * n;
      T* t = time + keep[i] % in.grid_t * n;
      for (std::int64_t c = 0; c < n; ++c) {
        f[c] += row[c];
        t[c] += row[c];
      }
    }
  }
  for (std::int64_t c = 0; c < n; ++c) {
    put(a.dcls, c0 + c, a.dcls_mode, prefix[c]);
    put(a.ddist, c0 + c, a.ddist_mode, prefix[n + c]);
    put(a.dprefix_pos, c0 + c, a.dprefix_pos_mode, prefix[c]);
    put(a.dprefix_pos, in.width + c0 + c, a.dprefix_pos_mode, prefix[n + c]);
    T bias = 0;
    for (std::int64_t f = 0; f < in.grid_f; ++f) {
      put(a.dfreq_pos, (c0 + c) * in.grid_f + f, a.dfreq_pos_mode, freq[f * n + c]);
      bias += freq[f * n + c];
    }
    put(a.dbias, c0 + c, a.dbias_mode, bias);
    for (std::int64_t column = 0; column < in.table_t; ++column) {
      const std::int64_t t = column - offset;
      const T sum = t >= 0 && t < in.grid_t ? time[t * n + c] : T{0};
      put(a.dtime_pos, (c0 + c) * in.table_t + column, a.dtime_pos_mode, sum);
    }
  }
}

// `count` of the numbers 0..n-1, ascending; all sets are equally likely.
std::vector<std::int32_t> choose(std::int64_t n, std::int64_t count, Philox& rng) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  if (count == n) return all;
  rng.shuffle(all);
  all.resize(static_cast<std::size_t>(count));
  std::ranges::sort(all);
  return all;
}

}  // namespace

template <class T>
void patch_tokens_fwd(Cpu, const PatchTokensFwd<T>& a) {
  const PatchInput<T>& in = a.in;
  const std::int64_t panels = (in.kept + kForwardRows - 1) / kForwardRows;
  parallel_for(in.batch * panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      forward_panel(a, i / panels, i % panels * kForwardRows);
    }
  });
  for (std::int64_t sample = 0; sample < in.batch; ++sample) {
    T* y = a.y + sample * (in.kept + 2) * in.width;
    for (std::int64_t c = 0; c < in.width; ++c) {
      y[c] = a.cls[c] + a.prefix_pos[c];
      y[in.width + c] = a.dist[c] + a.prefix_pos[in.width + c];
    }
  }
}

template <class T>
void patch_tokens_bwd(Cpu, const PatchTokensBwd<T>& a) {
  const PatchInput<T>& in = a.in;
  if (a.dweight) weight_gradient(a);
  const std::int64_t blocks = (in.width + kChannels - 1) / kChannels;
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      position_gradients(a, i * kChannels, std::min(in.width, (i + 1) * kChannels));
    }
  });
}

void draw_patchout(Cpu, const DrawPatchout& a) {
  const std::uint64_t step = a.state != nullptr ? a.state->step : a.step;
  Philox rng({.seed = a.seed, .stream = kStreamPatchout, .step = step});
  const std::vector<std::int32_t> columns = choose(a.grid_t, a.kept_columns(), rng);
  const std::vector<std::int32_t> rows = choose(a.grid_f, a.kept_rows(), rng);
  std::int32_t* out = a.keep;
  for (const std::int32_t i : choose(a.kept_columns() * a.kept_rows(), a.kept(), rng)) {
    *out++ =
        static_cast<std::int32_t>(rows[static_cast<std::size_t>(i / a.kept_columns())] * a.grid_t +
                                  columns[static_cast<std::size_t>(i % a.kept_columns())]);
  }
  if (a.time_offset == nullptr) return;
  *a.time_offset = 0;
  if (a.grid_t < a.table_t) {
    Philox offset({.seed = a.seed, .stream = kStreamTimeOffset, .step = step});
    *a.time_offset = static_cast<std::int32_t>(
        offset.below(static_cast<std::uint32_t>(a.table_t - a.grid_t + 1)));
  }
}

template void patch_tokens_fwd(Cpu, const PatchTokensFwd<float>&);
template void patch_tokens_fwd(Cpu, const PatchTokensFwd<double>&);
template void patch_tokens_bwd(Cpu, const PatchTokensBwd<float>&);
template void patch_tokens_bwd(Cpu, const PatchTokensBwd<double>&);

}  // namespace onpa::kernels
