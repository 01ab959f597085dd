// Training a dense network in whole steps (kernels::DenseStep) on data that stay where it computes;
// on the GPU many steps are one graph.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/dense.h"
#include "nn/dense.h"
#include "nn/optim.h"
#include "tensor/device_step.h"
#include "tensor/flat_params.h"

namespace onpa::nn {

struct DenseFusedConfig {
  OptimizerConfig optimizer;
  kernels::LossKind loss = kernels::LossKind::kMse;
  float huber_delta = 1;
  std::int64_t batch_size = 512;
  int steps_per_graph = 32;  // at most; 1 to 64
  std::uint64_t seed = 0;    // of the order of rows and of dropout
  bool shuffle = true;
};

class DenseFused {
 public:
  /// Empty if such training can run here, else what it lacks, in one line; the caller then trains
  /// through autograd.
  static std::string problem(const DenseConfig& model, const DenseFusedConfig& config);

  /// Takes x (rows, inputs) and y (rows, 1), f32, to the device of `params`, which are those of a
  /// Dense of `model`, f32; they and `optimizer` are on one device and outlive this. Starts at step
  /// 0 of epoch 0. Throws Error: kConfig with problem(), kDevice, kOutOfMemory.
  DenseFused(const DenseConfig& model, const DenseFusedConfig& config, const FlatParams& params,
             Optimizer& optimizer, const Tensor& x, const Tensor& y);

  /// Goes on from there: `step` steps were begun (the counter of dropout), of epoch `epoch` the
  /// first `position` rows are done. Also to be called after parameters, moments or the optimizer's
  /// count were changed from outside. Nothing may be pending.
  void seek(std::uint64_t epoch, std::int64_t position, std::uint64_t step);

  /// Queues as many steps as there are learning rates, 1 to steps_per_graph, as
  /// one graph; there is one for each count that occurs. An epoch's last batch is what is left of
  /// it, and the next epoch follows.
  void queue(std::span<const float> rates);

  /// What one queue() did.
  struct Result {
    /// Mean over each step's rows, before its update; not finite: the step was left out, see
    /// kernels::DenseStep.
    std::vector<float> losses;
    std::vector<float> grad_norms;  // before clipping; the CPU's only, else empty
    std::uint64_t epoch = 0;        // the place after them
    std::int64_t position = 0;
  };
  /// Waits for the oldest queue() that was not taken, which the CPU takes now;
  /// optimizer.step_count() then counts its updates.
  Result take();
  std::size_t pending() const { return queued_.size() + waiting_.size(); }
  std::int64_t steps_per_graph() const { return steps_per_graph_; }

 private:
  void run_steps(int count) const;
  Result take_on_cpu();

  kernels::DenseStep step_;
  int steps_per_graph_;
  Optimizer& optimizer_;
  DeviceKind device_;
  Tensor x_, y_, param_, m_, v_, workspace_;
  // On the CPU:
  kernels::DenseState now_;
  std::deque<std::vector<float>> waiting_;  // learning rates of each queue()
  // On the GPU:
  Tensor state_, later_states_;  // kernels::DenseState: (1), (steps_per_graph)
  Tensor rates_, losses_;
  std::optional<Uploader> uploader_;
  std::optional<Downloader> downloader_;
  std::deque<int> queued_;            // steps of each queue()
  std::map<int, DeviceStep> graphs_;  // by their steps
};

}  // namespace onpa::nn
