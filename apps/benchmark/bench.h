// The time of a model's steps on this machine, without a data set: what `onpa bench` measures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/support/compute_device.h"
#include "apps/support/config.h"
#include "apps/training/profile.h"
#include "apps/training/profile_report.h"

namespace onpa::apps {

struct BenchOptions {
  Config config;
  bool training = true;         // steps of `onpa train`; else passes of an evaluation
  std::string device = "auto";  // auto | cpu | cuda; a GPU computes in config.train.precision
  /// Steps to time, at most kMostBenchSteps; none: as many as take about 10 s, 5 at least.
  std::optional<std::int64_t> steps = {};
  /// Steps before, not counted; none: one on the CPU, three on the GPU, 50 short ones.
  std::optional<std::int64_t> warmup = {};
};
constexpr std::int64_t kMostBenchSteps = 1000;

struct BenchResult {
  Config config;  // with the clip length that was taken
  bool training = true;
  Compute compute;
  std::int64_t parameters = 0;
  std::int64_t samples = 0;  // of a step: clips or rows
  std::int64_t tokens = 0;   // of a clip; 0: a Dense
  double clip_seconds = 0;   // 0: a Dense

  std::int64_t warmup = 0;
  std::vector<double> step_seconds;  // in the order taken; of steps taken together their mean
  std::size_t tensor_bytes = 0;      // most held by tensors at a time, on the device of the steps
  std::size_t process_bytes = 0;     // most that was resident in host memory

  /// On the CPU of the timed steps; on the GPU of others after them, as kernels have to be started
  /// one by one to be told apart.
  Profile profile;
  ProfileTable table;

  /// Of step_seconds, interpolated linearly; `q` in [0, 1].
  double quantile(double q) const;
  double median_seconds() const { return quantile(0.5); }
  double samples_per_second() const;
  /// Seconds of audio in a second; 0: a Dense.
  double realtime_factor() const;
  double flops_per_step() const;
  double gflops() const;
  /// Of gflops() in the multiply-add peak; NaN if no limit could be measured.
  double share_of_peak() const;
  /// Time of a step whose every op ran at its limit; NaN as above.
  double least_seconds() const;
};

/// Draws weights and inputs from train.seed and takes the steps: of training through the StepTaker
/// that `onpa train` would take, of evaluation through logits_of(). Throws Error: kConfig, kDevice,
/// kOutOfMemory, kDiverged when a training step had no finite loss and so did not update.
BenchResult bench(const BenchOptions& options);

}  // namespace onpa::apps
