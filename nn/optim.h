// Optimizers over a flat parameter buffer; their state is flat too, and saved by name.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor/flat_params.h"
#include "tensor/op_scope.h"

namespace onpa::nn {

struct OptimizerConfig {
  std::string kind = "adamw";         // adamw | sgd
  double beta1 = 0.9, beta2 = 0.999;  // double: see kernels::AdamW
  float eps = 1e-8f;
  float weight_decay = 1e-4f;
  float momentum = 0.9f;  // sgd
  bool nesterov = true;   // sgd
  float clip_norm = 0;    // 0: none; as torch.nn.utils.clip_grad_norm_
  /// What the learning rate, and with it decoupled weight decay, of a parameter is multiplied by;
  /// null: 1. As groups of torch.optim.AdamW with a rate each.
  std::function<double(const std::string& name)> rate_scale = {};
};

/// The parameters that learn, cut into `count` equal parts, of which one optimizer updates part
/// `index` alone and keeps the moments of it (ZeRO stage 1, arXiv:1910.02054). The few parameters
/// that are left over by the division are updated by all.
struct OptimizerShard {
  static constexpr std::int64_t kAlign = 16;  // elements, as slots of FlatParams
  int index = 0, count = 1;

  std::int64_t part_numel(std::int64_t numel) const { return numel / (kAlign * count) * kAlign; }
  /// How many elements a buffer of moments has.
  std::int64_t state_numel(std::int64_t numel) const {
    return part_numel(numel) + numel - count * part_numel(numel);
  }
};

/// Updates the parameters that learn (FlatParams::learning_slots()); frozen ones have no moments.
class Optimizer {
 public:
  /// Throws Error (kConfig) for an unknown kind or a value out of range.
  Optimizer(const OptimizerConfig& config, const FlatParams& params,
            const OptimizerShard& shard = {});
  /// One update from params.grad(), all of which has to be there. Returns the gradient's norm
  /// before clipping; if it is not finite nothing is changed. With a shard the parameters of the
  /// other parts are as they were: each is to be fetched from the optimizer that updates it.
  double step(float lr, float grad_scale = 1.0f);
  /// The same queued on the GPU, without waiting: learning rate, count and clipping come from
  /// `state` (kernels::StepState in device memory), the gradient's sum of squares goes to `squares`
  /// (1) f64; if it is not finite nothing is changed. count_step() is to follow once it is known to
  /// be finite.
  void queue_step(const Tensor& state, const Tensor& squares, float grad_scale = 1.0f);
  void count_step() { ++step_count_; }
  float clip_norm() const { return config_.clip_norm; }
  /// Moves the state to the device of the parameters.
  void move_to(DeviceKind device);
  std::int64_t step_count() const { return step_count_; }
  void set_step_count(std::int64_t count) { step_count_ = count; }
  /// State buffers in the layout of the gradient ("m", "v" or "momentum"). With a shard those of
  /// its part, and then of what the division left over: (shard().state_numel(learning_numel)) each.
  std::vector<std::pair<std::string, Tensor>> state() const { return state_; }
  const OptimizerShard& shard() const { return shard_; }

 private:
  // Parameters [begin, end), whose moments begin at `state`, and which learn at `scale` times the
  // rate.
  struct Range {
    std::int64_t begin, end, state;
    float scale;
  };
  void find_ranges();
  void add_ranges(std::int64_t begin, std::int64_t end, std::int64_t state);
  OpWork update_work() const;
  void update(const Range& range, float lr, double grad_scale);
  void queue_update(const Range& range, const Tensor& state, const Tensor& squares,
                    float grad_scale);
  float* moment(std::size_t buffer, const Range& range) const;

  OptimizerConfig config_;
  const FlatParams& params_;
  OptimizerShard shard_;
  std::vector<Range> ranges_;  // that this part updates
  std::vector<std::pair<std::string, Tensor>> state_;
  std::int64_t step_count_ = 0;
};

/// Running average of parameters: EMA (fixed decay) or SWA (equal weights).
class AveragedParams {
 public:
  explicit AveragedParams(FlatParams& params);
  /// average = decay * average + (1 - decay) * parameters; decay in [0, 1].
  void update_ema(double decay);
  /// Equal average of the parameters at all calls. Parity: torch.optim.swa_utils.AveragedModel.
  void update_swa();
  const Tensor& data() const { return average_; }
  std::int64_t count() const { return count_; }
  void set_count(std::int64_t count) { count_ = count; }
  /// Exchanges the averaged and the live parameters (call again to undo).
  void swap();
  void move_to(DeviceKind device) { average_ = average_.to(device); }

 private:
  FlatParams& params_;
  Tensor average_;
  std::int64_t count_ = 0;
};

}  // namespace onpa::nn
