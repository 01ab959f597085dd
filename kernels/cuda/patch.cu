// Patch tokens as one matrix product over gathered patches. The gathered matrix has a row for every
// token, zeros for the class and distillation tokens, so that its rows are those of y and dy.
#include "kernels/patch.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/gemm.h"

namespace onpa::kernels {
namespace {

using gpu::kVec, gpu::kWarp;

constexpr int kThreads = 256;
constexpr int kPrefix = 2;  // class and distillation token
constexpr int kTile = 32;

template <class T>
GPU_FN std::int64_t first_time_column(const PatchInput<T>& in) {
  return in.time_offset_device != nullptr ? *in.time_offset_device : in.time_offset;
}

// ---- gathering ----

// Row b * tokens + i of `patches` is patch i - kPrefix of sample b. A thread writes 16 bytes.
template <class T>
struct Gather {
  PatchInput<T> in;
  T* patches;  // (batch, kept + kPrefix, patch_f * patch_t)
  std::int64_t pieces_per_row;
  bool aligned;  // pointers and rows, to 16 bytes: then a row is whole pieces
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(Gather<T> a) {
  constexpr int kV = kVec<T>;
  const PatchInput<T>& in = a.in;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t tokens = in.kept + kPrefix, row = piece / a.pieces_per_row;
  if (row >= in.batch * tokens) return;
  const std::int64_t sample = row / tokens, token = row - sample * tokens;
  const int area = static_cast<int>(in.patch_f * in.patch_t);
  const int patch_t = static_cast<int>(in.patch_t);
  const int k0 = static_cast<int>(piece - row * a.pieces_per_row) * kV;
  float v[kV] = {};
  if (token >= kPrefix) {
    const std::int32_t cell = in.keep[sample * in.keep_stride + token - kPrefix];
    const std::int32_t grid_t = static_cast<std::int32_t>(in.grid_t);
    const std::int64_t f = cell / grid_t, t = cell % grid_t;
    int r = k0 / patch_t, s = k0 - r * patch_t;
    const T* from = in.x + (sample * in.mels + f * in.stride_f + r) * in.frames + t * in.stride_t;
#pragma unroll
    for (int j = 0; j < kV; ++j) {
      if (k0 + j < area) v[j] = static_cast<float>(from[s]);
      if (++s == patch_t) {
        s = 0;
        from += in.frames;
      }
    }
  }
  gpu::store_piece(a.patches + row * area + k0, a.aligned, area - k0, v);
}

template <class T>
void gather(Cuda dev, const PatchInput<T>& in, T* patches) {
  const std::int64_t area = in.patch_f * in.patch_t, pieces = (area + kVec<T> - 1) / kVec<T>;
  const Gather<T> args{in, patches, pieces, area % kVec<T> == 0};
  gpu::launch(gather_kernel<T>, gpu::blocks_for(in.batch * (in.kept + kPrefix) * pieces, kThreads),
              kThreads, 0, gpu::stream_of(dev), args);
}

template <class T>
std::size_t gathered_bytes(const PatchInput<T>& in) {
  return gpu::carved_bytes<T>(
      static_cast<std::size_t>(in.batch * (in.kept + kPrefix) * in.patch_f * in.patch_t));
}

// ---- forward ----

// positions (grid_f + grid_t, width): freq_pos + bias, then the columns of time_pos that the clip
// uses, transposed so that a token reads along channels. Tiles go through shared memory.
template <class T>
__global__ void __launch_bounds__(kThreads)
    positions_kernel(PatchTokensFwd<T> a, std::int64_t freq_tiles, float* positions) {
  GPU_SHARED(tile, float[kTile][kTile + 1]);
  const PatchInput<T>& in = a.in;
  const int lane = threadIdx.x % kTile, warp = threadIdx.x / kTile;
  const std::int64_t channel0 = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const bool is_freq = blockIdx.y < freq_tiles;
  const std::int64_t row0 = (blockIdx.y - (is_freq ? 0 : freq_tiles)) * kTile;
  const std::int64_t rows = is_freq ? in.grid_f : in.grid_t;
  const std::int64_t pitch = is_freq ? in.grid_f : in.table_t;
  const T* table = is_freq ? a.freq_pos : a.time_pos + first_time_column(in);
  for (int c = warp; c < kTile; c += kThreads / kTile) {
    const std::int64_t channel = channel0 + c, row = row0 + lane;
    if (channel < in.width && row < rows) {
      const float v = static_cast<float>(table[channel * pitch + row]);
      tile[c][lane] = is_freq ? v + static_cast<float>(a.bias[channel]) : v;
    }
  }
  __syncthreads();
  if (!is_freq) positions += in.grid_f * in.width;
  for (int r = warp; r < kTile; r += kThreads / kTile) {
    const std::int64_t channel = channel0 + lane, row = row0 + r;
    if (channel < in.width && row < rows) positions[row * in.width + channel] = tile[lane][r];
  }
}

// v += from[0 .. count), four floats at a time where `whole`.
template <int kV>
GPU_FN void add_floats(const float* from, bool whole, std::int64_t count, float (&v)[kV]) {
#pragma unroll
  for (int i = 0; i < kV; i += 4) {
    float w[4];
    gpu::load_piece(from + i, whole, count - i, w);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[i + j] += w[j];
  }
}

template <class T>
struct Finish {
  PatchTokensFwd<T> a;
  const float* positions;
  std::int64_t pieces_per_row;
  bool aligned;  // pointers and rows, to 16 bytes: then a row is whole pieces
};

// y, which holds the products, gets its positions; the two leading tokens are written anew.
template <class T>
__global__ void __launch_bounds__(kThreads) add_positions_kernel(Finish<T> args) {
  constexpr int kV = kVec<T>;
  const PatchTokensFwd<T>& a = args.a;
  const PatchInput<T>& in = a.in;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t tokens = in.kept + kPrefix, row = piece / args.pieces_per_row;
  if (row >= in.batch * tokens) return;
  const std::int64_t sample = row / tokens, token = row - sample * tokens;
  const std::int64_t c = (piece - row * args.pieces_per_row) * kV, left = in.width - c;
  const bool whole = args.aligned;
  T* y = a.y + row * in.width + c;
  float v[kV];
  if (token < kPrefix) {
    float pos[kV];
    gpu::load_piece((token == 0 ? a.cls : a.dist) + c, whole, left, v);
    gpu::load_piece(a.prefix_pos + token * in.width + c, whole, left, pos);
#pragma unroll
    for (int j = 0; j < kV; ++j) v[j] += pos[j];
  } else {
    const std::int32_t cell = in.keep[sample * in.keep_stride + token - kPrefix];
    const std::int32_t grid_t = static_cast<std::int32_t>(in.grid_t);
    const std::int64_t f = cell / grid_t, t = cell % grid_t;
    gpu::load_piece(y, whole, left, v);
    add_floats(args.positions + f * in.width + c, whole, left, v);
    add_floats(args.positions + (in.grid_f + t) * in.width + c, whole, left, v);
  }
  gpu::store_piece(y, whole, left, v);
}

// ---- backward ----

// position[set][cell] = where the cell stands in the set's keep, -1 if it is left out.
__global__ void __launch_bounds__(kThreads)
    positions_of_cells_kernel(const std::int32_t* keep, std::int64_t keep_stride, std::int64_t kept,
                              std::int64_t cells, std::int32_t* position) {
  keep += blockIdx.x * keep_stride;
  position += blockIdx.x * cells;
  for (std::int64_t i = threadIdx.x; i < cells; i += kThreads) position[i] = -1;
  __syncthreads();
  for (std::int64_t i = threadIdx.x; i < kept; i += kThreads) {
    position[keep[i]] = static_cast<std::int32_t>(i);
  }
}

template <class T>
struct Sums {
  PatchTokensBwd<T> a;
  const std::int32_t* position;  // (sets, grid_f * grid_t)
  std::int64_t cells, position_stride;
  float* token_sums;  // (kPrefix + cells, width): dy over the batch
  float* freq_sums;   // (grid_f, width)
  std::int64_t pieces_per_row;
  bool aligned;  // pointers and rows, to 16 bytes: then a row is whole pieces
};

// The gradient of every cell: dy of its token summed over the batch, so that dy is read once.
template <class T>
__global__ void __launch_bounds__(kThreads) token_sums_kernel(Sums<T> s) {
  constexpr int kV = kVec<T>;
  const PatchInput<T>& in = s.a.in;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = piece / s.pieces_per_row;
  if (row >= kPrefix + s.cells) return;
  const std::int64_t c = (piece - row * s.pieces_per_row) * kV, left = in.width - c;
  const bool whole = s.aligned;
  float sum[kV] = {};
  for (std::int64_t sample = 0; sample < in.batch; ++sample) {
    std::int64_t token = row;
    if (row >= kPrefix) {
      const std::int32_t i = s.position[sample * s.position_stride + row - kPrefix];
      if (i < 0) continue;
      token = kPrefix + i;
    }
    float dy[kV];
    gpu::load_piece(s.a.dy + (sample * (in.kept + kPrefix) + token) * in.width + c, whole, left,
                    dy);
#pragma unroll
    for (int j = 0; j < kV; ++j) sum[j] += dy[j];
  }
  float* to = s.token_sums + row * in.width + c;
#pragma unroll
  for (int i = 0; i < kV; i += 4) {
    const float w[4] = {sum[i], sum[i + 1], sum[i + 2], sum[i + 3]};
    gpu::store_piece(to + i, whole, left - i, w);
  }
}

template <class T>
GPU_FN void put(T* out, std::int64_t index, GradMode mode, float value) {
  if (out == nullptr) return;
  if (mode == GradMode::kAccumulate) value += static_cast<float>(out[index]);
  out[index] = static_cast<T>(value);
}

// A block has 32 channels of one row of freq_pos or one column of time_pos: its cells are shared
// out to the warps.
template <class T>
__global__ void __launch_bounds__(kThreads) table_sums_kernel(Sums<T> s) {
  constexpr int kWarps = kThreads / kWarp;
  GPU_SHARED(sums, float[kWarps][kWarp]);
  const PatchInput<T>& in = s.a.in;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const bool is_freq = blockIdx.y < in.grid_f;
  const std::int64_t f = blockIdx.y, column = f - in.grid_f, t = column - first_time_column(in);
  std::int64_t first = 0, count = 0, step = 1;  // of cells
  if (is_freq) {
    first = f * in.grid_t, count = in.grid_t;
  } else if (t >= 0 && t < in.grid_t) {
    first = t, count = in.grid_f, step = in.grid_t;
  }
  float sum = 0;
  if (channel < in.width) {
    const float* from = s.token_sums + (kPrefix + first) * in.width + channel;
    for (std::int64_t i = warp; i < count; i += kWarps) sum += from[i * step * in.width];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= in.width) return;
  for (int w = 1; w < kWarps; ++w) sum += sums[w][lane];
  if (is_freq) {
    s.freq_sums[f * in.width + channel] = sum;
    put(s.a.dfreq_pos, channel * in.grid_f + f, s.a.dfreq_pos_mode, sum);
  } else {
    put(s.a.dtime_pos, channel * in.table_t + column, s.a.dtime_pos_mode, sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) vector_sums_kernel(Sums<T> s) {
  const PatchTokensBwd<T>& a = s.a;
  const std::int64_t width = a.in.width;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= width) return;
  const float cls = s.token_sums[c], dist = s.token_sums[width + c];
  float bias = 0;
  for (std::int64_t f = 0; f < a.in.grid_f; ++f) bias += s.freq_sums[f * width + c];
  put(a.dcls, c, a.dcls_mode, cls);
  put(a.ddist, c, a.ddist_mode, dist);
  put(a.dprefix_pos, c, a.dprefix_pos_mode, cls);
  put(a.dprefix_pos, width + c, a.dprefix_pos_mode, dist);
  put(a.dbias, c, a.dbias_mode, bias);
}

// ---- launching ----

template <class T>
bool wants_sums(const PatchTokensBwd<T>& a) {
  return a.dbias || a.dcls || a.ddist || a.dprefix_pos || a.dfreq_pos || a.dtime_pos;
}

template <class T>
std::int64_t cells_of(const PatchInput<T>& in) {
  return in.grid_f * in.grid_t;
}

// Sets of kept cells.
template <class T>
std::int64_t sets_of(const PatchInput<T>& in) {
  return in.keep_stride == 0 ? 1 : in.batch;
}

// Everything but dweight; `memory` is what the gathered patches leave of the workspace.
template <class T>
void start_sums(Cuda dev, const PatchTokensBwd<T>& a, std::byte* memory) {
  const PatchInput<T>& in = a.in;
  const cudaStream_t stream = gpu::stream_of(dev);
  const std::int64_t cells = cells_of(in), sets = sets_of(in);
  const std::int64_t pieces = (in.width + kVec<T> - 1) / kVec<T>;
  auto* token_sums = reinterpret_cast<float*>(memory);
  auto* freq_sums = token_sums + (kPrefix + cells) * in.width;
  auto* position = reinterpret_cast<std::int32_t*>(freq_sums + in.grid_f * in.width);
  const Sums<T> s{a,          position,  cells,  in.keep_stride == 0 ? 0 : cells,
                  token_sums, freq_sums, pieces, gpu::aligned16(a.dy) && in.width % kVec<T> == 0};
  gpu::launch(positions_of_cells_kernel, static_cast<unsigned>(sets), kThreads, 0, stream, in.keep,
              in.keep_stride, in.kept, cells, position);
  gpu::launch(token_sums_kernel<T>, gpu::blocks_for((kPrefix + cells) * pieces, kThreads), kThreads,
              0, stream, s);
  gpu::launch(table_sums_kernel<T>,
              dim3(gpu::blocks_for(in.width, kWarp), static_cast<unsigned>(in.grid_f + in.table_t)),
              kThreads, 0, stream, s);
  gpu::launch(vector_sums_kernel<T>, gpu::blocks_for(in.width, kThreads), kThreads, 0, stream, s);
}

}  // namespace

template <class T>
std::size_t patch_tokens_fwd_workspace_bytes(Cuda, const PatchTokensFwd<T>& a) {
  const auto positions = static_cast<std::size_t>((a.in.grid_f + a.in.grid_t) * a.in.width);
  return gathered_bytes(a.in) + gpu::carved_bytes<float>(positions);
}

template <class T>
std::size_t patch_tokens_bwd_workspace_bytes(Cuda, const PatchTokensBwd<T>& a) {
  const PatchInput<T>& in = a.in;
  std::size_t bytes = a.dweight != nullptr ? gathered_bytes(in) : 0;
  if (wants_sums(a)) {
    const std::int64_t sums = (kPrefix + cells_of(in) + in.grid_f) * in.width;
    bytes += static_cast<std::size_t>(sums) * sizeof(float) +
             static_cast<std::size_t>(sets_of(in) * cells_of(in)) * sizeof(std::int32_t);
  }
  return bytes;
}

template <class T>
void patch_tokens_fwd(Cuda dev, const PatchTokensFwd<T>& a) {
  const PatchInput<T>& in = a.in;
  const cudaStream_t stream = gpu::stream_of(dev);
  const std::int64_t area = in.patch_f * in.patch_t, rows = in.batch * (in.kept + kPrefix);
  if (rows == 0) return;
  auto* patches = static_cast<T*>(a.workspace);
  auto* positions =
      reinterpret_cast<float*>(static_cast<std::byte*>(a.workspace) + gathered_bytes(in));
  gather(dev, in, patches);
  gemm<T>(dev, {.trans_b = Trans::kYes,
                .m = rows,
                .n = in.width,
                .k = area,
                .a = patches,
                .lda = area,
                .b = a.weight,
                .ldb = area,
                .c = a.y,
                .ldc = in.width});
  const unsigned freq_tiles = gpu::blocks_for(in.grid_f, kTile);
  gpu::launch(
      positions_kernel<T>,
      dim3(gpu::blocks_for(in.width, kTile), freq_tiles + gpu::blocks_for(in.grid_t, kTile)),
      kThreads, 0, stream, a, std::int64_t{freq_tiles}, positions);
  const std::int64_t pieces = (in.width + kVec<T> - 1) / kVec<T>;
  const bool aligned = gpu::aligned16(a.y, a.cls, a.dist, a.prefix_pos) && in.width % kVec<T> == 0;
  gpu::launch(add_positions_kernel<T>, gpu::blocks_for(rows * pieces, kThreads), kThreads, 0,
              stream, Finish<T>{a, positions, pieces, aligned});
}

template <class T>
void patch_tokens_bwd(Cuda dev, const PatchTokensBwd<T>& a) {
  const PatchInput<T>& in = a.in;
  auto* memory = static_cast<std::byte*>(a.workspace);
  if (a.dweight != nullptr) {
    const std::int64_t area = in.patch_f * in.patch_t;
    auto* patches = reinterpret_cast<T*>(memory);
    memory += gathered_bytes(in);
    gather(dev, in, patches);
    gemm<T>(dev, {.trans_a = Trans::kYes,
                  .m = in.width,
                  .n = area,
                  .k = in.batch * (in.kept + kPrefix),
                  .a = a.dy,
                  .lda = in.width,
                  .b = patches,
                  .ldb = area,
                  .c = a.dweight,
                  .ldc = area,
                  .beta = a.dweight_mode == GradMode::kAccumulate ? 1.0f : 0.0f});
  }
  if (wants_sums(a)) start_sums(dev, a, memory);
}

template std::size_t patch_tokens_fwd_workspace_bytes(Cuda, const PatchTokensFwd<float>&);
template std::size_t patch_tokens_fwd_workspace_bytes(Cuda, const PatchTokensFwd<bf16>&);
template std::size_t patch_tokens_bwd_workspace_bytes(Cuda, const PatchTokensBwd<float>&);
template std::size_t patch_tokens_bwd_workspace_bytes(Cuda, const PatchTokensBwd<bf16>&);
template void patch_tokens_fwd<float>(Cuda, const PatchTokensFwd<float>&);
template void patch_tokens_fwd<bf16>(Cuda, const PatchTokensFwd<bf16>&);
template void patch_tokens_bwd<float>(Cuda, const PatchTokensBwd<float>&);
template void patch_tokens_bwd<bf16>(Cuda, const PatchTokensBwd<bf16>&);

}  // namespace onpa::kernels
