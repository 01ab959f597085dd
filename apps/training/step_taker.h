// Where the steps of a training run are taken: on the CPU, or on the GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "apps/support/compute_device.h"
#include "apps/support/config.h"
#include "apps/training/ranks.h"
#include "apps/training/train_task.h"
#include "nn/optim.h"
#include "tensor/flat_params.h"

namespace onpa::apps {

/// What one optimizer step did.
struct StepResult {
  double loss = 0;                  // mean over its passes, before the update
  std::optional<double> grad_norm;  // before clipping; none: not computed
  bool updated = false;             // false: loss or gradient was not finite, nothing was changed
  std::int64_t samples = 0;         // of all ranks
  std::int64_t cursor = 0;          // where the epoch goes on after it
  bool stop = false;                // with several ranks: one of them was asked to stop
};

/// Takes the steps; who owns it says how many, and counts them.
class StepTaker {
 public:
  virtual ~StepTaker() = default;
  /// Goes to a place in an epoch: `cursor` as TrainTask::start_epoch() has it, after `step` steps
  /// of the run. Steps that take() has not returned must not be under way.
  virtual void start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) = 0;
  /// Waits for the oldest steps that were not returned yet, at least one. None is begun that lies
  /// more than `limit` steps after the last one returned before. Empty once all are returned, if
  /// `limit` is 0 or the epoch has ended. Throws what the task throws, once the steps before are
  /// returned and before anything but gradients has changed; Error: kDevice, kOutOfMemory (naming
  /// the largest batch that fits).
  virtual std::vector<StepResult> take(std::int64_t limit) = 0;
  /// Seconds so far in which no step went on for want of data.
  virtual double wait_seconds() const = 0;
};

/// What steps work with; all of it outlives their taker.
struct StepParts {
  const Config& config;
  TrainTask& task;
  FlatParams& params;  // with `optimizer` on the device of the steps
  nn::Optimizer& optimizer;
  /// Learning rate of a step of the running epoch, by its number in the run.
  std::function<double(std::int64_t step)> rate;
  /// The ranks that take each step together, and whose watch hears of them; null: one, unwatched.
  Ranks* ranks = nullptr;

  bool several_ranks() const { return ranks != nullptr && ranks->several(); }
  void phase(const char* name) const {
    if (ranks != nullptr) ranks->phase(name);
  }
};

/// Moves the model, its gradients, the optimizer's state and the average (if it is given) to where
/// steps are to be taken, and returns what takes them there. Throws Error: kDevice, kOutOfMemory.
std::unique_ptr<StepTaker> start_steps(const StepParts& parts, const Compute& compute,
                                       nn::AveragedParams* average);

}  // namespace onpa::apps
