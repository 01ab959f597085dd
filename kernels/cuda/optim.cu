#include "kernels/optim.h"

#include "kernels/cuda/adamw.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/totals.cuh"

namespace onpa::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kPer = 4;  // elements of a thread: 16 bytes of the float buffers

// v = from[0 .. count), zeros beyond; `whole` says that all are there and lie on kPer elements.
GPU_FN void load4(const float* from, bool whole, std::int64_t count, float (&v)[kPer]) {
  gpu::load_piece(from, whole, count, v);
}
GPU_FN void load4(const bf16* from, bool whole, std::int64_t count, float (&v)[kPer]) {
  if (whole) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    const float2 low = gpu::unpack_bf16(words.x), high = gpu::unpack_bf16(words.y);
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
    return;
  }
#pragma unroll
  for (int j = 0; j < kPer; ++j) v[j] = j < count ? static_cast<float>(from[j]) : 0.0f;
}

GPU_FN void store4(bf16* to, bool whole, std::int64_t count, const float (&v)[kPer]) {
  if (whole) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(gpu::pack_bf16(v[0], v[1]), gpu::pack_bf16(v[2], v[3]));
    return;
  }
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    if (j < count) to[j] = static_cast<bf16>(v[j]);
  }
}

// The scale of the gradient with clipping folded in, or NaN where nothing is to be written.
GPU_FN float clipped_scale(float grad_scale, const double* sum_of_squares, float clip_norm) {
  return sum_of_squares == nullptr ? grad_scale
                                   : gpu::clipped_scale(grad_scale, *sum_of_squares, clip_norm);
}

// The part of a buffer that a thread works on.
struct Piece {
  std::int64_t at, count;
  bool whole;
};
GPU_FN Piece piece_of_thread(std::int64_t n, bool aligned) {
  const std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPer;
  return {at, n - at, aligned && n - at >= kPer};
}

struct AdamWArgs {
  AdamW a;
  gpu::AdamWConstants constants;
  bool aligned;
};

template <class Grad>
__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamWArgs args, const Grad* grads) {
  const AdamW& a = args.a;
  const Piece piece = piece_of_thread(a.n, args.aligned);
  if (piece.count <= 0) return;  // mutation: saves work: loads and stores look at count
  float grad[kPer], param[kPer], m[kPer], v[kPer];
  load4(grads + piece.at, piece.whole, piece.count, grad);
  load4(a.param + piece.at, piece.whole, piece.count, param);
  load4(a.m + piece.at, piece.whole, piece.count, m);
  load4(a.v + piece.at, piece.whole, piece.count, v);

  float lr = a.lr, clip_norm = a.clip_norm, step = static_cast<float>(a.step);
  if (a.state != nullptr) {
    lr = a.state->lr;
    clip_norm = a.state->clip_norm;
    step = static_cast<float>(a.state->optimizer_step);
  }
  const float scale = clipped_scale(a.grad_scale, a.grad_sum_of_squares, clip_norm);
  if (a.grad_sum_of_squares != nullptr && isnan(scale)) return;
  const gpu::AdamWFactors factors =
      gpu::adamw_factors(args.constants, lr * a.lr_scale, step, a.weight_decay, a.eps);
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    gpu::adamw_element(args.constants, factors, grad[j] * scale, param[j], m[j], v[j]);
  }
  gpu::store_piece(a.m + piece.at, piece.whole, piece.count, m);
  gpu::store_piece(a.v + piece.at, piece.whole, piece.count, v);
  gpu::store_piece(a.param + piece.at, piece.whole, piece.count, param);
  if (a.param_bf16 != nullptr) store4(a.param_bf16 + piece.at, piece.whole, piece.count, param);
}

struct SgdArgs {
  Sgd a;
  bool aligned;
};

template <class Grad>
__global__ void __launch_bounds__(kThreads) sgd_kernel(SgdArgs args, const Grad* grads) {
  const Sgd& a = args.a;
  const Piece piece = piece_of_thread(a.n, args.aligned);
  if (piece.count <= 0) return;  // mutation: saves work: loads and stores look at count
  float grad[kPer], param[kPer], moment[kPer];
  load4(grads + piece.at, piece.whole, piece.count, grad);
  load4(a.param + piece.at, piece.whole, piece.count, param);
  const bool has_moment = a.momentum_buffer != nullptr;
  if (has_moment) load4(a.momentum_buffer + piece.at, piece.whole, piece.count, moment);

  const float lr = (a.state != nullptr ? a.state->lr : a.lr) * a.lr_scale;
  const float clip_norm = a.state != nullptr ? a.state->clip_norm : a.clip_norm;
  const float scale = clipped_scale(a.grad_scale, a.grad_sum_of_squares, clip_norm);
  if (a.grad_sum_of_squares != nullptr && isnan(scale)) return;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    float update = fmaf(a.weight_decay, param[j], grad[j] * scale);
    if (has_moment) {
      const float g = update;
      moment[j] = fmaf(a.momentum, moment[j], g);
      update = a.nesterov ? fmaf(a.momentum, moment[j], g) : moment[j];
    }
    param[j] = fmaf(-lr, update, param[j]);
  }
  if (has_moment) {
    gpu::store_piece(a.momentum_buffer + piece.at, piece.whole, piece.count, moment);
  }
  gpu::store_piece(a.param + piece.at, piece.whole, piece.count, param);
  if (a.param_bf16 != nullptr) store4(a.param_bf16 + piece.at, piece.whole, piece.count, param);
}

template <class T>
__global__ void __launch_bounds__(gpu::kTotalThreads)
    sum_of_squares_kernel(const T* x, std::int64_t n, std::int64_t chunk, bool aligned,
                          double* partial) {
  constexpr int kV = gpu::kVec<T>;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * chunk;
  const std::int64_t last = min(first + chunk, n);
  double sum = 0;
  // mutation: saves a round of zeros: loads look at what is left
  for (std::int64_t i = first + threadIdx.x * kV; i < last; i += gpu::kTotalThreads * kV) {
    float v[kV];
    gpu::load_piece(x + i, aligned && last - i >= kV, last - i, v);
#pragma unroll
    for (int j = 0; j < kV; ++j) sum += static_cast<double>(v[j]) * static_cast<double>(v[j]);
  }
  gpu::store_partial(sum, partial);
}

struct Average {
  float weight;
  GPU_FN float operator()(float average, float param) const {
    // Weight 1 copies, whatever the average held.
    return weight == 1.0f ? param : fmaf(weight, param - average, average);
  }
};

template <class T>
void start_sum_of_squares(Cuda dev, const SumOfSquares& a, const T* x) {
  const gpu::Chunks chunks = gpu::total_chunks(a.n);
  gpu::launch(sum_of_squares_kernel<T>, static_cast<unsigned>(chunks.count), gpu::kTotalThreads, 0,
              gpu::stream_of(dev), x, a.n, chunks.size, gpu::aligned16(x),
              static_cast<double*>(a.workspace));
  gpu::launch_total(dev, a.workspace, chunks.count, 1.0, a.out);
}

}  // namespace

void adamw(Cuda dev, const AdamW& a) {
  const AdamWArgs args{a, gpu::adamw_constants(a.beta1, a.beta2),
                       gpu::aligned16(a.param, a.m, a.v, a.grad, a.grad_bf16, a.param_bf16)};
  const unsigned blocks = gpu::blocks_for(a.n, kThreads * kPer);
  const cudaStream_t stream = gpu::stream_of(dev);
  if (a.grad_bf16 != nullptr) {
    gpu::launch(adamw_kernel<bf16>, blocks, kThreads, 0, stream, args, a.grad_bf16);
  } else {
    gpu::launch(adamw_kernel<float>, blocks, kThreads, 0, stream, args, a.grad);
  }
}

void sgd(Cuda dev, const Sgd& a) {
  const SgdArgs args{a,
                     gpu::aligned16(a.param, a.momentum_buffer, a.grad, a.grad_bf16, a.param_bf16)};
  const unsigned blocks = gpu::blocks_for(a.n, kThreads * kPer);
  const cudaStream_t stream = gpu::stream_of(dev);
  if (a.grad_bf16 != nullptr) {
    gpu::launch(sgd_kernel<bf16>, blocks, kThreads, 0, stream, args, a.grad_bf16);
  } else {
    gpu::launch(sgd_kernel<float>, blocks, kThreads, 0, stream, args, a.grad);
  }
}

std::size_t sum_of_squares_workspace_bytes(Cuda, const SumOfSquares& a) {
  return static_cast<std::size_t>(gpu::total_chunks(a.n).count) * sizeof(double);
}

void sum_of_squares(Cuda dev, const SumOfSquares& a) {
  if (a.x_bf16 != nullptr) {
    start_sum_of_squares(dev, a, a.x_bf16);
  } else {
    start_sum_of_squares(dev, a, a.x);
  }
}

void average_weights(Cuda dev, const AverageWeights& a) {
  gpu::launch_map(dev, gpu::Map<float, 2>{{a.average, a.param}, a.average, a.n, false, false},
                  Average{a.weight});
}

}  // namespace onpa::kernels
