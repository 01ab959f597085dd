// Training steps of a Dense, whole ones, on rows that stay where it computes: nn::DenseFused.
#pragma once

#include <cstddef>
#include <string>

#include "apps/training/step_taker.h"
#include "nn/dense_fused.h"

namespace onpa::apps {

class DenseSteps : public StepTaker {
 public:
  /// Empty if a run with these settings can take such steps on a device with `free_bytes` of memory
  /// free, else why not, in one line.
  static std::string problem(const Config& config, const DenseRows& rows, std::size_t free_bytes);

  /// As DenseFused's constructor. `rows` are copied.
  DenseSteps(StepParts parts, const DenseRows& rows);

  void start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) override;
  /// The steps of one graph (on the CPU: as many), which never lie on both sides of a line of
  /// metrics. More are queued behind it, as far as `limit` and the epoch go.
  std::vector<StepResult> take(std::int64_t limit) override;
  double wait_seconds() const override { return 0; }

 private:
  struct Place {
    std::int64_t step = 0, cursor = 0;
  };
  bool queue_graph(std::int64_t last_step);
  std::int64_t samples_at(std::int64_t cursor) const;

  StepParts parts_;
  std::int64_t rows_;
  nn::DenseFused fused_;
  Place returned_, queued_;  // after the steps of take(), and after all
};

}  // namespace onpa::apps
