// Dense training steps, part one: a block takes a few rows of the batch through all layers and
// back. Activations stay in shared memory; weights are read from the second-level cache, once each
// way by every block, 16 bytes a thread.
#include <algorithm>

#include "kernels/cuda/dense_plan.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/loss_cell.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa::kernels {
namespace {

using gpu::DensePlan;
using gpu::DensePlanLayer;

constexpr int kRows = gpu::kDenseRows;
constexpr int kThreads = gpu::kDenseThreads;
constexpr int kColumns = 4;   // columns of a thread in a product
constexpr int kMinDepth = 8;  // terms of a sum that are worth a thread
constexpr int kPartials = kThreads * kColumns * kRows;
constexpr int kKeepBytes = static_cast<int>(kMaxDenseWidth) / 4;  // of a row: 4 columns a byte
static_assert(kThreads >= kMaxDenseWidth / kColumns);

// What a block shares. `operand` is the left side of the next product, (depth, kRows); `partial`
// the sums of groups of threads, (groups, kRows, stride).
struct Shared {
  float *operand, *partial;
  unsigned char* keep;  // (kRows, kKeepBytes), bit j: column 4 i + j is kept
  std::uint32_t* row;   // (kRows) rows of the data set
  float* loss;          // (kRows)
  int first, valid;     // first row's place in the batch, and how many there are
};

// The sums of operand^T w over groups of rows of w (depth, stride), each in `partial`; returns the
// number of groups. Not synchronized.
GPU_FN int multiply(const Shared& s, const float* w, int stride, int depth) {
  const int quads = stride / kColumns, tid = static_cast<int>(threadIdx.x);
  // mutation to (kThreads / quads): more groups of fewer terms give the same sum
  const int groups = min(kThreads / quads, (depth + kMinDepth - 1) / kMinDepth);
  const int group = tid / quads, column = (tid - group * quads) * kColumns;
  if (group >= groups) return groups;
  const int chunk = (depth + groups - 1) / groups;
  const int begin = group * chunk, end = min(begin + chunk, depth);
  float sum[kRows][kColumns] = {};
  const float* from = w + begin * stride + column;
#pragma unroll 8
  for (int k = begin; k < end; ++k, from += stride) {
    float right[kColumns], left[kRows];
    gpu::load16(from, right);
#pragma unroll
    for (int r = 0; r < kRows; r += 4) {
      const float4 v = *reinterpret_cast<const float4*>(s.operand + k * kRows + r);
      left[r] = v.x, left[r + 1] = v.y, left[r + 2] = v.z, left[r + 3] = v.w;
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] = fmaf(left[r], right[c], sum[r][c]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    gpu::store16(s.partial + (group * kRows + r) * stride + column, sum[r]);
  }
  return groups;
}

// Column `column` of the product for all rows.
GPU_FN void add_groups(const Shared& s, int groups, int stride, int column, float (&sum)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) sum[r] = s.partial[r * stride + column];
  for (int g = 1; g < groups; ++g) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum[r] += s.partial[(g * kRows + r) * stride + column];
  }
}

GPU_FN void put_operand(const Shared& s, int column, const float (&v)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) s.operand[column * kRows + r] = v[r];
}

// to[row of the batch][column] = v, for the rows that there are.
GPU_FN void put_rows(const Shared& s, float* to, int stride, int column, const float (&v)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r < s.valid) to[static_cast<std::int64_t>(s.first + r) * stride + column] = v[r];
  }
}

// The rows of the data set and, as an input that is 1, what the bias is multiplied with.
GPU_FN void gather(const DensePlan& plan, const Shared& s) {
  const DensePlanLayer& layer = plan.layer[0];
  for (int i = static_cast<int>(threadIdx.x); i < kRows * layer.input_stride; i += kThreads) {
    const int r = i / layer.input_stride, column = i - r * layer.input_stride;
    float v = column == layer.inputs ? 1.0f : 0.0f;
    if (column < layer.inputs && r < s.valid) {
      v = plan.a.x[static_cast<std::int64_t>(s.row[r]) * layer.inputs + column];
    }
    if (column <= layer.inputs) s.operand[column * kRows + r] = v;
    if (r < s.valid) {
      layer.input[static_cast<std::int64_t>(s.first + r) * layer.input_stride + column] = v;
    }
  }
}

GPU_FN void draw_dropout(const DensePlan& plan, const Shared& s, int layer, std::uint64_t step) {
  const int pieces = (plan.layer[layer].outputs + 3) / 4;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * pieces; i += kThreads) {
    const int r = i / pieces, piece = i - r * pieces;
    const RngKey key = {plan.a.seed, kStreamDropout + (static_cast<std::uint32_t>(layer) << 16),
                        step, static_cast<std::uint64_t>(s.first + r)};
    std::uint32_t words[4];
    philox_block(key, static_cast<std::uint64_t>(piece), words);
    unsigned bits = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      bits |= static_cast<unsigned>(uniform_from_bits(words[j]) >= plan.a.dropout) << j;
    }
    s.keep[r * kKeepBytes + piece] = static_cast<unsigned char>(bits);
  }
}

// v = act(z); slope = its derivative.
template <Activation kActivation>
GPU_FN void activate(float z, float& v, float& slope) {
  if constexpr (kActivation == Activation::kRelu) {
    v = z < 0 ? 0.0f : z;  // not fmaxf: a NaN must stay one
    slope = z > 0 ? 1.0f : 0.0f;
  } else if constexpr (kActivation == Activation::kGelu) {
    v = z * gpu::normal_cdf(z);
    slope = gpu::gelu_slope(z);
  } else {
    v = z;
    slope = 1;
  }
}

// From the sums of hidden layer i to the input of the next.
template <Activation kActivation>
GPU_FN void finish_hidden(const DensePlan& plan, const Shared& s, int i, int groups) {
  const DensePlanLayer &layer = plan.layer[i], &next = plan.layer[i + 1];
  const float scale = 1.0f / (1.0f - plan.a.dropout);
  for (int column = static_cast<int>(threadIdx.x); column < next.input_stride; column += kThreads) {
    float v[kRows], slope[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) v[r] = column == layer.outputs ? 1.0f : 0.0f;
    if (column < layer.outputs) {
      float sum[kRows];
      add_groups(s, groups, layer.output_stride, column, sum);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        activate<kActivation>(sum[r], v[r], slope[r]);
        if (plan.a.dropout > 0) {
          const bool kept = (s.keep[r * kKeepBytes + column / 4] >> (column % 4) & 1) != 0;
          v[r] = kept ? v[r] * scale : 0.0f;
          slope[r] = kept ? slope[r] * scale : 0.0f;
        }
      }
      put_rows(s, layer.slope, layer.output_stride, column, slope);
    } else if (column < layer.output_stride) {
      put_rows(s, layer.slope, layer.output_stride, column, {});
    }
    if (column <= layer.outputs) put_operand(s, column, v);
    put_rows(s, next.input, next.input_stride, column, v);
  }
}

// Losses of the rows, and their slopes as the operand of the way back. Returns whether all slopes
// are finite.
template <LossKind kKind>
GPU_FN bool finish_loss(const DensePlan& plan, const Shared& s, int groups, float count) {
  const DensePlanLayer& layer = plan.layer[plan.a.layers - 1];
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kRows) return true;
  float loss = 0, slope = 0;
  if (r < s.valid) {
    float sum = 0;
    for (int g = 0; g < groups; ++g) sum += s.partial[(g * kRows + r) * layer.output_stride];
    const float target = plan.a.y[s.row[r]];
    loss = gpu::cell_loss<kKind>(sum, target, plan.a.delta);
    slope = gpu::cell_slope<kKind>(sum, target, plan.a.delta) / count;
    gpu::store16(layer.slope + static_cast<std::int64_t>(s.first + r) * layer.output_stride,
                 {slope, 0, 0, 0});
  }
  s.operand[r] = slope;
  s.loss[r] = loss;
  return isfinite(slope);
}

// From the sums of the way back through layer i to the gradient before the activation of the layer
// below. Returns whether all of it is finite.
GPU_FN bool finish_backward(const DensePlan& plan, const Shared& s, int i, int groups) {
  const DensePlanLayer &layer = plan.layer[i], &below = plan.layer[i - 1];
  bool finite = true;
  for (int column = static_cast<int>(threadIdx.x); column < layer.inputs; column += kThreads) {
    float v[kRows];
    add_groups(s, groups, layer.backward_stride, column, v);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // This thread wrote the slope on the way forward.
      const std::int64_t at = static_cast<std::int64_t>(s.first + r) * below.output_stride;
      v[r] = r < s.valid ? v[r] * below.slope[at + column] : 0.0f;
      finite = finite && isfinite(v[r]);
    }
    put_operand(s, column, v);
    put_rows(s, below.slope, below.output_stride, column, v);
  }
  return finite;
}

// All layers forward, the losses, and back. Returns whether all gradients are finite.
template <Activation kActivation, LossKind kKind>
GPU_FN bool run_layers(const DensePlan& plan, const Shared& s, std::uint64_t step, float count) {
  const int last = plan.a.layers - 1;
  int groups = 0;
  for (int i = 0; i <= last; ++i) {
    const DensePlanLayer& layer = plan.layer[i];
    groups = multiply(s, layer.forward, layer.output_stride, layer.inputs + 1);
    // mutation: saves draws that nobody looks at
    if (i < last && plan.a.dropout > 0) draw_dropout(plan, s, i, step);
    __syncthreads();
    if (i == last) break;
    finish_hidden<kActivation>(plan, s, i, groups);
    __syncthreads();
  }
  bool finite = finish_loss<kKind>(plan, s, groups, count);
  for (int i = last; i > 0; --i) {
    const DensePlanLayer& layer = plan.layer[i];
    __syncthreads();
    groups = multiply(s, layer.backward, layer.backward_stride, layer.outputs);
    __syncthreads();
    finite = finish_backward(plan, s, i, groups) && finite;
  }
  return finite;
}

template <Activation kActivation, LossKind kKind>
__global__ void __launch_bounds__(kThreads) dense_rows_kernel(const DensePlan plan, int depth) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  float* operand = carve.take<float>(static_cast<std::size_t>(depth * kRows));
  float* partial = carve.take<float>(kPartials);
  auto* keep = carve.take<unsigned char>(kRows * kKeepBytes);
  GPU_SHARED(row, std::uint32_t[kRows]);
  GPU_SHARED(row_loss, float[kRows]);
  const DenseState state = *plan.a.state;
  const std::int64_t count = gpu::dense_count(plan.a, state);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int tid = static_cast<int>(threadIdx.x);
  if (first >= count) {  // mutation: the losses of no rows come out as 0 too
    if (tid == 0) plan.row_loss[blockIdx.x] = 0;
    return;
  }
  const Shared s = {operand,
                    partial,
                    keep,
                    row,
                    row_loss,
                    static_cast<int>(first),
                    static_cast<int>(min(count - first, std::int64_t{kRows}))};
  if (tid < s.valid) {
    const auto position =
        static_cast<std::uint32_t>(state.position) + static_cast<std::uint32_t>(s.first + tid);
    const auto rows = static_cast<std::uint32_t>(plan.a.rows);
    row[tid] = plan.a.shuffle ? ShuffledOrder(plan.a.seed, state.epoch, rows)(position) : position;
  }
  __syncthreads();
  gather(plan, s);
  __syncthreads();
  const bool finite =
      run_layers<kActivation, kKind>(plan, s, state.step, static_cast<float>(count));
  // The barrier also brings the rows' losses.
  const bool all_finite = __syncthreads_and(finite) != 0;
  if (tid == 0) {
    double sum = all_finite ? 0.0 : static_cast<double>(NAN);
    for (int r = 0; r < kRows; ++r) sum += row_loss[r];
    plan.row_loss[blockIdx.x] = sum;
  }
}

template <Activation kActivation>
void launch_rows(Cuda dev, const DensePlan& plan) {
  int depth = 1;
  for (int i = 0; i < plan.a.layers; ++i) depth = std::max(depth, plan.layer[i].inputs + 1);
  const std::size_t smem = gpu::carved_bytes<float>(static_cast<std::size_t>(depth * kRows)) +
                           gpu::carved_bytes<float>(kPartials) +
                           gpu::carved_bytes<unsigned char>(kRows * kKeepBytes);
  const auto start = [&](void (*kernel)(DensePlan, int)) {
    gpu::launch(kernel, static_cast<unsigned>(plan.row_blocks), kThreads, smem, gpu::stream_of(dev),
                plan, depth);
  };
  if (plan.a.loss_kind == LossKind::kMse) {
    start(dense_rows_kernel<kActivation, LossKind::kMse>);
  } else if (plan.a.loss_kind == LossKind::kL1) {
    start(dense_rows_kernel<kActivation, LossKind::kL1>);
  } else {
    start(dense_rows_kernel<kActivation, LossKind::kHuber>);
  }
}

}  // namespace
}  // namespace onpa::kernels

namespace onpa::gpu {

void launch_dense_rows(kernels::Cuda dev, const DensePlan& plan) {
  if (plan.a.activation == kernels::Activation::kRelu) {
    kernels::launch_rows<kernels::Activation::kRelu>(dev, plan);
  } else if (plan.a.activation == kernels::Activation::kGelu) {
    kernels::launch_rows<kernels::Activation::kGelu>(dev, plan);
  } else {
    kernels::launch_rows<kernels::Activation::kNone>(dev, plan);
  }
}

}  // namespace onpa::gpu
