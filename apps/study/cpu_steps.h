// Training steps on the CPU.
#pragma once

#include <utility>

#include "apps/study/step_taker.h"

namespace onpa::apps {

class CpuSteps : public StepTaker {
 public:
  explicit CpuSteps(StepParts parts) : parts_(std::move(parts)) {}

  void start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) override;
  /// One step.
  std::vector<StepResult> take(std::int64_t limit) override;
  double wait_seconds() const override { return parts_.task.wait_seconds(); }

 private:
  bool load(std::uint64_t draw, HostBatch& batch);
  Tensor forward(const HostBatch& batch, std::uint64_t draw);

  StepParts parts_;
  std::int64_t step_ = 0;
};

}  // namespace onpa::apps
