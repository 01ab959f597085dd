// The training steps of a task on the GPU: forward and backward are one replayed graph, the update
// another, and the next batch is loaded and uploaded while they run. With several ranks the graph
// of a step's last pass holds the sums of gradients too, beside the kernels of backward.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "apps/training/step_taker.h"
#include "dist/ddp.h"
#include "tensor/device_step.h"

namespace onpa::apps {

class DeviceSteps : public StepTaker {
 public:
  /// The model's random draws take their step from here as long as this lives. `gpus`: a Comm of
  /// the ranks in `parts`, for tensors on their GPUs; null for one rank.
  explicit DeviceSteps(StepParts parts, std::unique_ptr<dist::Comm> gpus = nullptr);
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
    HostBatch batch;         // without them
    double weight() const;   // of its loss in that of the whole batch
  };
  // Of a step.
  struct Pass {
    bool first, last;
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
  void run_pass(const Loaded& loaded, Pass pass);
  void queue_pass(const Loaded& loaded, std::uint64_t draw, Pass pass);
  void reduce();
  void queue_update(double lr, std::int64_t passes);
  void wait(const std::vector<double>& weights, StepResult& out);
  void agree(StepResult& out);

  StepParts parts_;
  std::unique_ptr<dist::Comm> gpus_;  // ends after the graphs that hold what it does
  std::optional<dist::Ddp> ddp_;
  std::int64_t step_ = 0;
  std::shared_ptr<SharedArena> arena_;
  std::size_t arena_bytes_ = 0;  // that the largest of the shapes may take, its inputs included
  std::map<std::vector<std::int64_t>, std::unique_ptr<Shape>> shapes_;
  Tensor state_, loss_, squares_;
  std::unique_ptr<DeviceStep> update_, reduce_;
  std::int64_t update_passes_ = 0;
  std::optional<Ahead> ahead_;
  double hidden_wait_seconds_ = 0;  // for data, while the GPU had work
  std::optional<Uploader> uploader_{std::in_place};
  Downloader losses_, norms_;
};

}  // namespace onpa::apps
