// The state and the parts of one run of the training loop; trainer.h is the way in.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/study/metrics.h"
#include "apps/support/metrics_log.h"
#include "apps/support/progress.h"
#include "apps/support/run_dir.h"
#include "apps/support/tfevents.h"
#include "apps/training/profile.h"
#include "apps/training/ranks.h"
#include "apps/training/step_taker.h"
#include "apps/training/train_state.h"
#include "apps/training/train_task.h"
#include "apps/training/trainer.h"
#include "kernels/error.h"

namespace onpa::apps {

class TrainingRun {
 public:
  /// `data` and `ranks` outlive it.
  TrainingRun(const TrainOptions& options, const data::DataSet& data, Ranks& ranks);
  /// The exit code; throws as train().
  int run();

 private:
  // training_start.cpp: a checkpoint, given weights or fresh ones, on all ranks
  void begin();
  std::optional<nn::FoundCheckpoint> find_start(const Moments& moments);
  void resume_from(const nn::FoundCheckpoint& found, const Moments& moments);
  std::vector<std::string> check_same_model(const nn::FoundCheckpoint& found) const;
  void share_start(const Moments& moments);
  void choose_device();
  void start_files(const std::string& unwritten_metrics);

  // training_run.cpp: from epoch to epoch
  void train_epochs();
  void close_epoch();
  void check_same_weights();
  bool save();
  void write_checkpoint(const Moments& moments);
  bool agree_to_stop();
  bool stopping() const;
  void flush_log(bool last);

  // training_end.cpp: what is left behind, and the exit code
  int finish();
  int close_files(bool stopped, bool written);
  bool write_bad_tracks();
  void write_slowest_tracks();

  // training_profile.cpp: with --profile
  void start_profile();
  void report_profile();

  // training_steps.cpp: within an epoch, and evaluation
  bool run_epoch();
  std::int64_t steps_to_stop() const;
  double scheduled_lr(std::int64_t step) const;
  void count_step(const StepResult& step);
  void skip_step(const StepResult& step);
  void report_step(const StepResult& step);
  void start_line();
  void start_window();
  ProgressState window_state() const;
  bool evaluate();
  void log(const Metrics& metrics);
  std::string log_problem();
  void note_progress();

  bool out_of_steps() const;
  bool done() const { return out_of_steps() || state_.epoch >= config_.train.epochs; }
  std::int64_t steps_per_epoch() const;
  std::int64_t total_steps() const;
  TrainParts parts() { return {params_, optimizer_, average_ ? &*average_ : nullptr}; }

  TrainOptions options_;
  Config config_;
  const data::DataSet& data_;
  Ranks& ranks_;
  std::unique_ptr<TrainTask> task_;
  std::optional<RunDir> run_;  // with its files, of rank 0 alone
  FlatParams params_;
  nn::Optimizer optimizer_;
  std::optional<nn::AveragedParams> average_;
  std::unique_ptr<StepTaker> steps_;
  std::optional<MetricsLog> metrics_;
  std::optional<EventWriter> events_;
  Progress progress_;
  std::optional<Profiler> profiler_;  // until its steps are over

  TrainState state_;
  bool stopping_ = false;     // all ranks know that one was asked to stop
  bool changed_ = false;      // since the newest checkpoint
  bool save_failed_ = false;  // the last time
  bool log_failed_ = false;
  bool report_failed_ = false;
  bool profile_failed_ = false;
  double lr_ = 0;
  TrainReport::Errors errors_;  // of the last evaluation

  // since the last line of metrics, or since the run was resumed
  struct Window {
    double begin_seconds = 0, wait_seconds = 0;
    std::int64_t samples = 0, steps = 0;
  } window_;
};

/// In a checkpoint: the lines of metrics.jsonl that could not be written until then.
inline constexpr const char* kUnwrittenMetrics = "unwritten_metrics.jsonl";

/// Seconds on a clock that never jumps.
double monotonic_seconds();
/// Whether a file could not be written, which is no reason to end a run.
bool is_disk_error(const Error& error);

}  // namespace onpa::apps
