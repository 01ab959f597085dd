// Training steps on the CPU, of one rank or of several together.
#pragma once

#include <optional>

#include "apps/training/step_taker.h"
#include "dist/ddp.h"

namespace onpa::apps {

class CpuSteps : public StepTaker {
 public:
  explicit CpuSteps(StepParts parts);

  void start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) override;
  /// One step.
  std::vector<StepResult> take(std::int64_t limit) override;
  double wait_seconds() const override { return parts_.task.wait_seconds(); }

 private:
  bool load(std::uint64_t draw, HostBatch& batch);
  Tensor forward(const HostBatch& batch, std::uint64_t draw);
  void learn(const HostBatch& batch, std::uint64_t draw, bool last, StepResult& out);
  void start_sums(const StepResult& mine);
  void finish_sums(StepResult& out);

  StepParts parts_;
  std::int64_t step_ = 0;
  // with several ranks
  std::optional<dist::Ddp> ddp_;
  Tensor sums_;  // (2) f64: the loss, and how many ranks were asked to stop
  dist::Work sums_work_;
  bool reducing_ = false;
};

}  // namespace onpa::apps
