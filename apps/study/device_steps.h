// The training steps of a task on the GPU: a batch is uploaded, forward and backward are one
// replayed graph, the update another.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "apps/study/train_task.h"
#include "nn/optim.h"
#include "tensor/device_step.h"
#include "tensor/flat_params.h"

namespace onpa::apps {

class DeviceSteps {
 public:
  /// Parameters and optimizer state must be on the GPU already. The model's random draws take
  /// their step from here as long as this lives.
  DeviceSteps(TrainTask& task, FlatParams& params, nn::Optimizer& optimizer);
  ~DeviceSteps();
  DeviceSteps(const DeviceSteps&) = delete;
  DeviceSteps& operator=(const DeviceSteps&) = delete;

  /// Queues forward and backward of a batch under `draw`; the first one of a step forgets the
  /// gradients of before. Throws Error (kOutOfMemory) that names the largest batch that fits.
  void queue_pass(const HostBatch& batch, std::uint64_t draw, bool first);
  /// Queues the update from the gradients of `passes` batches.
  void queue_update(double lr, std::int64_t passes);
  struct Result {
    double loss = 0;  // mean over the passes
    double norm = 0;  // of the gradient before clipping; not finite: nothing was updated
  };
  /// Waits for the passes and the update queued last.
  Result wait();

 private:
  struct Shape;  // what depends on the shapes of a batch
  Shape& shape_of(const HostBatch& batch);
  std::int64_t largest_batch(const HostBatch& batch, std::size_t free_bytes);

  TrainTask& task_;
  FlatParams& params_;
  nn::Optimizer& optimizer_;
  std::map<std::vector<std::int64_t>, std::unique_ptr<Shape>> shapes_;
  Tensor state_, loss_, squares_;
  std::unique_ptr<DeviceStep> update_;
  std::int64_t passes_ = 0;  // since the last update
  std::int64_t update_passes_ = 0;
  Uploader uploader_;
  Downloader losses_, norms_;
};

}  // namespace onpa::apps
