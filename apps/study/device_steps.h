// The training steps of a task on the GPU: forward and backward are one replayed graph, the update
// another, and the next batch is loaded and uploaded while they run.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "apps/study/step_taker.h"
#include "tensor/device_step.h"

namespace onpa::apps {

class DeviceSteps : public StepTaker {
 public:
  /// The model's random draws take their step from here as long as this lives.
  explicit DeviceSteps(StepParts parts);
  ~DeviceSteps() override;
  DeviceSteps(const DeviceSteps&) = delete;
  DeviceSteps& operator=(const DeviceSteps&) = delete;

  void start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) override;
  /// One step. If another may follow, its first batch is loaded before the wait.
  std::vector<StepResult> take(std::int64_t limit) override;
  double wait_seconds() const override;

 private:
  struct Shape;  // what depends on the shapes of a batch
  struct Loaded {
    Shape* shape = nullptr;  // its inputs hold the batch
    std::int64_t samples = 0, cursor = 0;
  };
  // The first batch of the next step, or why there is none: the epoch's end or an error.
  struct Ahead {
    std::optional<Loaded> batch;
    std::exception_ptr error;
  };

  Shape& shape_of(const HostBatch& batch);
  void make_room(const HostBatch& batch);
  std::size_t needed_bytes(const HostBatch& batch, std::int64_t samples);
  std::int64_t largest_batch(const HostBatch& batch, std::size_t free_bytes);
  std::optional<Loaded> load(std::uint64_t draw);
  std::optional<Loaded> first_batch(std::uint64_t draw);
  void load_ahead(std::uint64_t draw);
  void queue_pass(Shape& shape, std::uint64_t draw, bool first);
  void queue_update(double lr, std::int64_t passes);
  void wait(std::int64_t passes, StepResult& out);

  StepParts parts_;
  std::int64_t step_ = 0;
  std::shared_ptr<SharedArena> arena_;
  std::size_t arena_bytes_ = 0;  // that the largest of the shapes may take, its inputs included
  std::map<std::vector<std::int64_t>, std::unique_ptr<Shape>> shapes_;
  Tensor state_, loss_, squares_;
  std::unique_ptr<DeviceStep> update_;
  std::int64_t update_passes_ = 0;
  std::optional<Ahead> ahead_;
  double hidden_wait_seconds_ = 0;  // for data, while the GPU had work
  std::optional<Uploader> uploader_{std::in_place};
  Downloader losses_, norms_;
};

}  // namespace onpa::apps
