// A whole training step of a small dense network on data that stay on the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/device.h"
#include "kernels/loss.h"
#include "kernels/shuffle.h"

namespace onpa::kernels {

constexpr int kMaxDenseLayers = 8;
constexpr std::int64_t kMaxDenseWidth = 512;

/// Where training stands, in device memory; each step reads one and writes the next.
struct DenseState {
  std::uint64_t step = 0;            // steps begun: RngKey::step of dropout
  std::uint64_t optimizer_step = 1;  // 1 for the first update
  std::uint64_t epoch = 0;           // key of the order of rows
  std::uint64_t position = 0;        // rows of the epoch that are done; < rows
  double loss_sum = 0;               // of the applied steps, mean loss x rows
  std::uint64_t samples = 0;         // rows of the applied steps
  std::uint64_t not_finite = 0;      // steps that were not applied
};

struct DenseLayer {
  std::int64_t inputs, outputs;  // 1 .. kMaxDenseWidth
  std::int64_t weight, bias;     // offsets of (outputs, inputs) and (outputs) in `param`
};

/// One step of AdamW (as kernels::AdamW) on `count` = min(batch, rows - position) rows, which are
/// those that ShuffledOrder(seed, epoch, rows) has at `position` and after, or the next ones where
/// `shuffle` is false. Hidden layers are act(x W^T + b) and dropout; the last has one output.
/// Dropout of layer i draws as kernels::Dropout with stream kStreamDropout + (i << 16), sample =
/// place in the batch. A step whose loss or gradient is not finite changes no parameter; its loss
/// is NaN or infinite. (On the GPU, without clipping: a gradient that overflows only in the sum
/// over rows leaves out its own parameter alone.) After the last rows the next epoch begins, with
/// step counts going on. Parity: the same steps through autograd, up to the order of float sums,
/// which is fixed.
struct DenseStep {
  const float* x;                     // (rows, layer[0].inputs)
  const float* y;                     // (rows)
  std::int64_t rows;                  // >= 1, < 2^32
  std::int64_t batch;                 // >= 1
  int layers;                         // 1 .. kMaxDenseLayers
  DenseLayer layer[kMaxDenseLayers];  // each one's inputs are the outputs of the one before
  Activation activation;
  float dropout;       // [0, 1)
  LossKind loss_kind;  // kMse, kL1 or kHuber
  float delta;         // kHuber: > 0
  std::uint64_t seed;
  bool shuffle;
  float *param, *m, *v;
  double beta1, beta2;
  float eps, weight_decay;
  float clip_norm;  // 0: not clipped. Clipping costs a third launch
  const float* lr;  // (1)
  const DenseState* state;
  DenseState* next_state;      // not `state`
  float* grad_norm = nullptr;  // (1) or null, which it is for CUDA: before clipping
  float* loss;                 // (1) mean loss of the rows, before the update
  void* workspace = nullptr;   // dense_step_workspace_bytes(), 16-byte aligned; kept between steps
};
void dense_step(Cpu, const DenseStep&);
void dense_step(Cuda, const DenseStep&);

/// Copies the parameters into the workspace in the layouts that steps read. To be called before the
/// first step and after anything but a step has written `param`.
void dense_pack(Cpu, const DenseStep&);
void dense_pack(Cuda, const DenseStep&);

/// Bytes of DenseStep::workspace that these arguments need; it is not read.
std::size_t dense_step_workspace_bytes(Cpu, const DenseStep&);
std::size_t dense_step_workspace_bytes(Cuda, const DenseStep&);

}  // namespace onpa::kernels
