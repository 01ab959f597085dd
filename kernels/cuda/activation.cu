#include "kernels/activation.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/math.cuh"

namespace onpa::kernels {
namespace {

struct Copy {
  GPU_FN float operator()(float x) const { return x; }
};

struct Relu {
  // Not fmaxf: a NaN must stay one.
  GPU_FN float operator()(float x) const { return x < 0 ? 0.0f : x; }
};

struct ReluSlope {
  GPU_FN float operator()(float dy, float x) const { return x > 0 ? dy : 0.0f; }
};

struct Gelu {
  GPU_FN float operator()(float x) const { return x * gpu::normal_cdf(x); }
};

struct GeluSlope {
  GPU_FN float operator()(float dy, float x) const { return dy * gpu::gelu_slope(x); }
};

constexpr int kDropoutThreads = 256;

template <class T>
struct DropoutArgs {
  Dropout<T> a;
  std::int64_t pieces_per_row;  // of kVec<T> columns
  float scale;
  bool aligned;  // pointers and rows, to 16 bytes: then a row is whole pieces
};

// A thread draws the Philox blocks of its piece of a row, so a mask bit depends on its row and
// column alone.
template <class T>
__global__ void __launch_bounds__(kDropoutThreads) dropout_kernel(DropoutArgs<T> args) {
  constexpr int kV = gpu::kVec<T>;
  constexpr int kWords = 4;
  const Dropout<T>& a = args.a;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kDropoutThreads + threadIdx.x;
  if (piece >= a.rows * args.pieces_per_row) return;
  const std::int64_t row = piece / args.pieces_per_row;
  const std::int64_t column = (piece - row * args.pieces_per_row) * kV;
  const std::int64_t at = row * a.cols + column, count = a.cols - column;

  RngKey key = a.key;
  if (a.state != nullptr) key.step = a.state->step;
  key.sample += static_cast<std::uint64_t>(row);
  const bool accumulate = a.mode == GradMode::kAccumulate;
  float x[kV], y[kV];
  gpu::load_piece(a.x + at, args.aligned, count, x);
  if (accumulate) gpu::load_piece(a.y + at, args.aligned, count, y);
#pragma unroll
  for (int k = 0; k < kV / kWords; ++k) {
    std::uint32_t words[kWords];
    philox_block(key, static_cast<std::uint64_t>(column / kWords + k), words);
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      const int i = k * kWords + j;
      const float v = uniform_from_bits(words[j]) >= a.p ? x[i] * args.scale : 0.0f;
      y[i] = accumulate ? y[i] + v : v;
    }
  }
  gpu::store_piece(a.y + at, args.aligned, count, y);
}

}  // namespace

template <class T>
void activation_fwd(Cuda dev, const ActivationFwd<T>& a) {
  const gpu::Map<T, 1> map{{a.x}, a.y, a.n, false, false};
  switch (a.activation) {
    case Activation::kNone:
      if (a.x != a.y) gpu::launch_map(dev, map, Copy{});
      break;
    case Activation::kRelu:
      gpu::launch_map(dev, map, Relu{});
      break;
    case Activation::kGelu:
      gpu::launch_map(dev, map, Gelu{});
      break;
  }
}

template <class T>
void activation_bwd(Cuda dev, const ActivationBwd<T>& a) {
  const bool accumulate = a.mode == GradMode::kAccumulate;
  const gpu::Map<T, 2> map{{a.dy, a.x}, a.dx, a.n, accumulate, false};
  switch (a.activation) {
    case Activation::kNone:
      gpu::launch_map(dev, gpu::Map<T, 1>{{a.dy}, a.dx, a.n, accumulate, false}, Copy{});
      break;
    case Activation::kRelu:
      gpu::launch_map(dev, map, ReluSlope{});
      break;
    case Activation::kGelu:
      gpu::launch_map(dev, map, GeluSlope{});
      break;
  }
}

template <class T>
void dropout(Cuda dev, const Dropout<T>& a) {
  constexpr int kV = gpu::kVec<T>;
  const DropoutArgs<T> args{a, (a.cols + kV - 1) / kV, 1.0f / (1.0f - a.p),
                            a.cols % kV == 0 && gpu::aligned16(a.x, a.y)};
  gpu::launch(dropout_kernel<T>, gpu::blocks_for(a.rows * args.pieces_per_row, kDropoutThreads),
              kDropoutThreads, 0, gpu::stream_of(dev), args);
}

template void activation_fwd<float>(Cuda, const ActivationFwd<float>&);
template void activation_fwd<bf16>(Cuda, const ActivationFwd<bf16>&);
template void activation_bwd<float>(Cuda, const ActivationBwd<float>&);
template void activation_bwd<bf16>(Cuda, const ActivationBwd<bf16>&);
template void dropout<float>(Cuda, const Dropout<float>&);
template void dropout<bf16>(Cuda, const Dropout<bf16>&);

}  // namespace onpa::kernels
