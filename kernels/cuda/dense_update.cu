// Dense training steps, part two: a block sums one tile of a layer's weight gradient over the
// batch and updates those weights.
#include "kernels/cuda/adamw.cuh"
#include "kernels/cuda/dense_plan.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/error.h"

namespace onpa::kernels {
namespace {

using gpu::DensePlan;
using gpu::DensePlanLayer;
using gpu::kDenseTile;
using gpu::kDenseTileCells;

constexpr int kThreads = gpu::kDenseThreads;
constexpr int kChunk = 64;  // rows of the batch in shared memory at a time
constexpr int kStages = 2;  // chunks: one is copied while the other is used
constexpr int kCells = 4;   // a thread multiplies kCells x kCells cells of the tile
constexpr int kTileThreads = kDenseTileCells / (kCells * kCells);
constexpr int kGroups = kThreads / kTileThreads;  // each takes every kGroups-th row of a chunk
constexpr int kOperand = kChunk * kDenseTile;     // floats
constexpr int kPerThread = kDenseTileCells / kThreads;
static_assert(kStages * 2 * kOperand >= kDenseTile * (kDenseTile + 1));

// What a launch does: all of it; or, where clipping needs the whole gradient first, in two.
enum class Pass { kAll, kGradient, kUpdate };

// A tile: `rows` are outputs of the layer, `columns` inputs and the bias.
struct Tile {
  int layer, row, column;
};
GPU_FN Tile tile_of_block(const DensePlan& plan) {
  const int block = static_cast<int>(blockIdx.x);
  int i = 0;
  while (i + 1 < plan.a.layers && plan.layer[i + 1].first_tile <= block) ++i;
  const int at = block - plan.layer[i].first_tile, columns = plan.layer[i].tile_columns;
  return {i, at / columns * kDenseTile, at % columns * kDenseTile};
}

// Starts copying rows [first, first + kChunk) of both operands; those past `count` become zeros.
GPU_FN void copy_chunk(const DensePlanLayer& layer, const Tile& tile, int first, int count,
                       float* stage) {
  constexpr int kPieces = kDenseTile / 4;  // 16-byte pieces of a row
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kChunk * kPieces; i += kThreads) {
    const bool is_input = i >= kChunk * kPieces;
    const int at = i % (kChunk * kPieces), row = at / kPieces, piece = at % kPieces * 4;
    const float* from = is_input ? layer.input : layer.slope;
    const int stride = is_input ? layer.input_stride : layer.output_stride;
    const int column = (is_input ? tile.column : tile.row) + piece;
    const bool there = first + row < count && column < stride;
    const std::int64_t offset = static_cast<std::int64_t>(first + row) * stride + column;
    gpu::cp_async16(stage + (is_input ? kOperand : 0) + row * kDenseTile + piece,
                    there ? from + offset : from, there);
  }
  gpu::cp_async_commit();
}

// The products of a chunk's rows that belong to this thread's group.
GPU_FN void multiply_chunk(const float* stage, int group, int row, int column,
                           float (&sum)[kCells][kCells]) {
#pragma unroll 4
  for (int k = group; k < kChunk; k += kGroups) {
    float a[kCells], b[kCells];
    gpu::load16(stage + k * kDenseTile + row, a);
    gpu::load16(stage + kOperand + k * kDenseTile + column, b);
#pragma unroll
    for (int i = 0; i < kCells; ++i) {
#pragma unroll
      for (int j = 0; j < kCells; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
  }
}

// The gradient of the block's tile: of cells threadIdx.x + i kThreads in `gradient`. The sum over
// the batch is that of the groups, in order.
GPU_FN void sum_tile(const DensePlanLayer& layer, const Tile& tile, int count, float* stages,
                     float* partial, float (&gradient)[kPerThread]) {
  const int tid = static_cast<int>(threadIdx.x);
  const int group = tid / kTileThreads, lane = tid % kTileThreads;
  constexpr int kAcross = kDenseTile / kCells;
  const int row = lane / kAcross * kCells, column = lane % kAcross * kCells;
  float sum[kCells][kCells] = {};
  copy_chunk(layer, tile, 0, count, stages);
  int stage = 0;
  for (int first = 0; first < count; first += kChunk, stage ^= 1) {
    if (first + kChunk < count) {
      copy_chunk(layer, tile, first + kChunk, count, stages + (stage ^ 1) * 2 * kOperand);
      gpu::cp_async_wait<1>();
    } else {
      gpu::cp_async_wait<0>();
    }
    __syncthreads();
    multiply_chunk(stages + stage * 2 * kOperand, group, row, column, sum);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kCells; ++i) {
    gpu::store16(partial + group * kDenseTileCells + (row + i) * kDenseTile + column, sum[i]);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int cell = tid + i * kThreads;
    gradient[i] = partial[cell];
#pragma unroll
    for (int g = 1; g < kGroups; ++g) gradient[i] += partial[g * kDenseTileCells + cell];
  }
}

// Updates the tile's parameters, moments and copies. `turn` is scratch for transposing.
GPU_FN void update_tile(const DensePlan& plan, const Tile& tile, float scale, float step,
                        const float (&gradient)[kPerThread], float* turn) {
  const DensePlanLayer& layer = plan.layer[tile.layer];
  const gpu::AdamWFactors factors =
      gpu::adamw_factors(plan.adamw, *plan.a.lr, step, plan.a.weight_decay, plan.a.eps);
  const int tid = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int cell = tid + i * kThreads;
    const int row = tile.row + cell / kDenseTile, column = tile.column + cell % kDenseTile;
    if (row >= layer.outputs || column > layer.inputs) continue;
    const bool is_bias = column == layer.inputs;
    const std::int64_t at =
        is_bias ? layer.bias + row
                : layer.weight + static_cast<std::int64_t>(row) * layer.inputs + column;
    float param = plan.a.param[at];
    const float g = gradient[i] * scale;
    if (isfinite(g)) {
      float m = plan.a.m[at], v = plan.a.v[at];
      gpu::adamw_element(plan.adamw, factors, g, param, m, v);
      plan.a.param[at] = param;
      plan.a.m[at] = m;
      plan.a.v[at] = v;
    }
    if (!is_bias) layer.backward[row * layer.backward_stride + column] = param;
    turn[cell % kDenseTile * (kDenseTile + 1) + cell / kDenseTile] = param;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int cell = tid + i * kThreads;
    const int row = tile.row + cell % kDenseTile, column = tile.column + cell / kDenseTile;
    if (row >= layer.outputs || column > layer.inputs) continue;
    layer.forward[column * layer.output_stride + row] =
        turn[cell / kDenseTile * (kDenseTile + 1) + cell % kDenseTile];
  }
}

// What the step leaves behind. One thread of the grid calls.
GPU_FN void finish_step(const DenseStep& a, const DenseState& state, std::int64_t count,
                        double loss_sum, bool applied) {
  DenseState next = state;
  *a.loss = static_cast<float>(loss_sum / static_cast<double>(count));
  ++next.step;
  next.position += static_cast<std::uint64_t>(count);
  if (next.position >= static_cast<std::uint64_t>(a.rows)) {
    next.position = 0;
    ++next.epoch;
  }
  if (applied) {
    ++next.optimizer_step;
    next.loss_sum += loss_sum;
    next.samples += static_cast<std::uint64_t>(count);
  } else {
    ++next.not_finite;
  }
  *a.next_state = next;
}

// The sum of values[0 .. count) in every thread, in a fixed order.
GPU_FN double sum_of(const double* values, int count, double* scratch) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += values[i];
  return gpu::block_sum<kThreads>(sum, scratch);
}

template <Pass kPass>
__global__ void __launch_bounds__(kThreads) dense_update_kernel(const DensePlan plan) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  float* stages = carve.take<float>(kStages * 2 * kOperand);
  float* partial = carve.take<float>(kGroups * kDenseTileCells);
  GPU_SHARED(warps, double[kThreads / gpu::kWarp]);
  const DenseState state = *plan.a.state;
  const std::int64_t count = gpu::dense_count(plan.a, state);
  const Tile tile = tile_of_block(plan);
  const int tid = static_cast<int>(threadIdx.x);
  float gradient[kPerThread];

  if constexpr (kPass == Pass::kUpdate) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      gradient[i] = plan.gradient[static_cast<std::int64_t>(blockIdx.x) * kDenseTileCells + tid +
                                  i * kThreads];
    }
  } else {
    sum_tile(plan.layer[tile.layer], tile, static_cast<int>(count), stages, partial, gradient);
  }
  if constexpr (kPass == Pass::kGradient) {
    double squares = 0;  // cells outside of the layer are 0, as the padding is
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      plan.gradient[static_cast<std::int64_t>(blockIdx.x) * kDenseTileCells + tid + i * kThreads] =
          gradient[i];
      squares += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    }
    squares = gpu::block_sum<kThreads>(squares, warps);
    if (tid == 0) plan.squares[blockIdx.x] = squares;
  } else {
    const double loss = sum_of(plan.row_loss, plan.row_blocks, warps);
    float scale = isfinite(loss) ? 1.0f : NAN;
    if constexpr (kPass == Pass::kUpdate) {
      __syncthreads();  // `warps` is used again
      scale *= gpu::clipped_scale(1.0f, sum_of(plan.squares, plan.tiles, warps), plan.a.clip_norm);
    }
    if (isfinite(scale)) {
      update_tile(plan, tile, scale, static_cast<float>(state.optimizer_step), gradient, stages);
    }
    if (blockIdx.x == 0 && tid == 0) {
      // The loss tells whether the step was applied, where only the gradient overflowed too.
      const bool applied = isfinite(scale);
      finish_step(plan.a, state, count, applied || !isfinite(loss) ? loss : NAN, applied);
    }
  }
}

template <Pass kPass>
void start(Cuda dev, const DensePlan& plan) {
  constexpr std::size_t kSmem = gpu::carved_bytes<float>(kStages * 2 * kOperand) +
                                gpu::carved_bytes<float>(kGroups * kDenseTileCells);
  gpu::launch(dense_update_kernel<kPass>, static_cast<unsigned>(plan.tiles), kThreads, kSmem,
              gpu::stream_of(dev), plan);
}

// A block copies a layer. Steps never write the zeros that are the padding.
__global__ void __launch_bounds__(kThreads) dense_pack_kernel(const DensePlan plan) {
  const DensePlanLayer& layer = plan.layer[blockIdx.x];
  const float *weight = plan.a.param + layer.weight, *bias = plan.a.param + layer.bias;
  const int tid = static_cast<int>(threadIdx.x);
  for (int i = tid; i < (layer.inputs + 1) * layer.output_stride; i += kThreads) {
    const int input = i / layer.output_stride, output = i - input * layer.output_stride;
    float v = 0;
    if (output < layer.outputs) {
      v = input < layer.inputs ? weight[output * layer.inputs + input] : bias[output];
    }
    layer.forward[i] = v;
  }
  for (int i = tid; i < layer.outputs * layer.backward_stride; i += kThreads) {
    const int output = i / layer.backward_stride, input = i - output * layer.backward_stride;
    layer.backward[i] = input < layer.inputs ? weight[output * layer.inputs + input] : 0.0f;
  }
}

void check(const DenseStep& a) {
  const auto ok = [](std::int64_t width) { return width >= 1 && width <= kMaxDenseWidth; };
  ONPA_CHECK(a.layers >= 1 && a.layers <= kMaxDenseLayers, "dense step: ", a.layers,
             " layers, want 1 to ", kMaxDenseLayers);
  for (int i = 0; i < a.layers; ++i) {
    ONPA_CHECK(ok(a.layer[i].inputs) && ok(a.layer[i].outputs), "dense step: layer ", i, " is ",
               a.layer[i].inputs, " to ", a.layer[i].outputs, " wide, want 1 to ", kMaxDenseWidth);
  }
  ONPA_CHECK(a.layer[a.layers - 1].outputs == 1, "dense step: ", a.layer[a.layers - 1].outputs,
             " outputs, want 1");
  ONPA_CHECK(a.rows >= 1 && a.rows < (std::int64_t{1} << 32) && a.batch >= 1,
             "dense step: ", a.rows, " rows in batches of ", a.batch);
  ONPA_CHECK(a.loss_kind == LossKind::kMse || a.loss_kind == LossKind::kL1 ||
                 a.loss_kind == LossKind::kHuber,
             "dense step: loss ", static_cast<int>(a.loss_kind), ", want MSE, L1 or Huber");
}

}  // namespace

void dense_step(Cuda dev, const DenseStep& a) {
  check(a);
  const DensePlan plan = gpu::dense_plan(a);
  gpu::launch_dense_rows(dev, plan);
  if (a.clip_norm > 0) {
    start<Pass::kGradient>(dev, plan);
    start<Pass::kUpdate>(dev, plan);
  } else {
    start<Pass::kAll>(dev, plan);
  }
}

void dense_pack(Cuda dev, const DenseStep& a) {
  check(a);
  gpu::launch(dense_pack_kernel, static_cast<unsigned>(a.layers), kThreads, 0, gpu::stream_of(dev),
              gpu::dense_plan(a));
}

std::size_t dense_step_workspace_bytes(Cuda, const DenseStep& a) {
  check(a);
  std::size_t bytes = 0;
  gpu::dense_plan(a, &bytes);
  return bytes;
}

}  // namespace onpa::kernels
