// Within an epoch: steps, their report, and evaluation.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>

#include "apps/support/log.h"
#include "apps/support/stop_signal.h"
#include "apps/training/training_run.h"
#include "kernels/error.h"
#include "nn/schedule.h"
#include "tensor/io/fault.h"
#include "tensor/op_scope.h"

namespace onpa::apps {
namespace {

// Resident memory of this process.
double resident_bytes() {
  std::ifstream in("/proc/self/statm");
  double pages = 0, resident = 0;
  in >> pages >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

RegressionMetrics metrics_of(const std::vector<TrackPrediction>& predictions) {
  std::vector<float> target, prediction;
  for (const TrackPrediction& p : predictions) {
    target.push_back(p.target);
    prediction.push_back(p.prediction);
  }
  return regression_metrics(target, prediction);
}

// The averaged parameters are the live ones while it lives.
class Averaged {
 public:
  explicit Averaged(nn::AveragedParams& average) : average_(average) { average_.swap(); }
  ~Averaged() { average_.swap(); }
  Averaged(const Averaged&) = delete;
  Averaged& operator=(const Averaged&) = delete;

 private:
  nn::AveragedParams& average_;
};

}  // namespace

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Steps that may be taken before something is due that needs the state after one of them.
std::int64_t TrainingRun::steps_to_stop() const {
  std::int64_t steps = std::numeric_limits<std::int64_t>::max();
  const std::int64_t last = config_.train.max_steps, every = config_.train.checkpoint_steps;
  if (last > 0) steps = std::max<std::int64_t>(0, last - state_.step);
  if (every > 0) steps = std::min(steps, every - state_.step % every);
  const std::int64_t hash = ranks_.several() ? config_.train.hash_steps : 0;
  if (hash > 0) steps = std::min(steps, hash - state_.step % hash);
  if (profiler_) steps = std::min(steps, profiler_->steps_to_edge(state_.step));
  return steps;
}

// Runs the epoch from state_.cursor; false if it was left before its end.
bool TrainingRun::run_epoch() {
  steps_->start_epoch(state_.epoch, state_.cursor, state_.step);
  task_->module().train(true);
  start_window();
  if (state_.cursor == 0) start_line();
  while (true) {
    const std::int64_t limit = stopping() ? 0 : steps_to_stop();
    if (profiler_) profiler_->begin_steps(state_.step);
    const double begin = monotonic_seconds();
    const std::vector<StepResult> taken = steps_->take(limit);
    for (const StepResult& step : taken) count_step(step);
    state_.train_seconds += monotonic_seconds() - begin;
    if (profiler_ && profiler_->end_steps(std::ssize(taken))) report_profile();
    if (taken.empty()) return limit > 0;
    const std::int64_t hash = ranks_.several() ? config_.train.hash_steps : 0;
    if (hash > 0 && state_.step % hash == 0) check_same_weights();
    if (config_.train.checkpoint_steps > 0 && state_.step % config_.train.checkpoint_steps == 0) {
      save();
    }
  }
}

double TrainingRun::scheduled_lr(std::int64_t step) const {
  const double within = static_cast<double>(step - state_.epoch_first_step) /
                        static_cast<double>(std::max<std::int64_t>(1, steps_per_epoch()));
  const double epoch = static_cast<double>(state_.epoch) + std::min(within, 1.0);
  return config_.train.lr * nn::lr_multiplier(config_.lr_schedule(), epoch);
}

void TrainingRun::count_step(const StepResult& step) {
  lr_ = scheduled_lr(state_.step);
  ++state_.step;
  ranks_.progress(state_.step);
  stopping_ = stopping_ || step.stop;
  state_.cursor = step.cursor;
  state_.samples += step.samples;
  window_.samples += step.samples;
  changed_ = true;
  if (step.updated) {
    state_.nonfinite_run = 0;
    if (config_.average.kind == "ema") {
      average_->update_ema(config_.average.ema_decay);
    }
  } else {
    skip_step(step);
  }
  report_step(step);
  io::fault_site(io::FaultSite::kStep);
}

void TrainingRun::skip_step(const StepResult& step) {
  ++state_.nonfinite_run;
  ++state_.nonfinite_total;
  progress_.clear();
  const std::string norm =
      step.grad_norm ? fmt::format(", gradient norm {}", *step.grad_norm) : std::string();
  spdlog::warn("step {}: loss {}{}: step skipped", state_.step, step.loss, norm);
  if (state_.nonfinite_run >= config_.train.max_nonfinite) {
    fail(ExitCode::kDiverged, "diverged: ", state_.nonfinite_run,
         " steps in a row without a finite loss and gradient, the last one step ", state_.step,
         "; try a lower train.lr or optim.clip_norm=1");
  }
}

void TrainingRun::start_line() {
  state_.line_steps = 0;
  state_.line_loss = 0;
}

void TrainingRun::start_window() {
  window_ = {};
  window_.begin_seconds = monotonic_seconds();
  window_.wait_seconds = steps_->wait_seconds();
}

ProgressState TrainingRun::window_state() const {
  const double seconds = std::max(monotonic_seconds() - window_.begin_seconds, 1e-9);
  const auto steps = static_cast<double>(window_.steps);
  ProgressState out;
  out.step = state_.step;
  out.total_steps = total_steps();
  out.epoch = state_.epoch + 1;
  out.epochs = config_.train.epochs;
  out.loss = state_.line_loss / static_cast<double>(state_.line_steps);
  out.lr = lr_;
  out.samples_per_second = static_cast<double>(window_.samples) / seconds;
  out.samples = config_.model.kind == "passt" ? "clips" : "rows";
  out.wait_fraction = (steps_->wait_seconds() - window_.wait_seconds) / seconds;
  out.memory_bytes = resident_bytes();
  out.eta_seconds = static_cast<double>(out.total_steps - out.step) * seconds / steps;
  return out;
}

void TrainingRun::report_step(const StepResult& step) {
  ++window_.steps;
  ++state_.line_steps;
  state_.line_loss += step.loss;
  const bool line = state_.step % config_.train.log_steps == 0;
  if (!line && !progress_.wants_update()) return;
  const ProgressState now = window_state();
  progress_.update(now, line);
  if (!line) return;
  Metrics metrics = {{"epoch", static_cast<double>(now.epoch)}, {"loss", now.loss}, {"lr", lr_}};
  if (step.grad_norm) metrics.emplace_back("grad_norm", *step.grad_norm);
  metrics.insert(metrics.end(), {{"clips_per_second", now.samples_per_second},
                                 {"data_wait", now.wait_fraction},
                                 {"memory_bytes", now.memory_bytes}});
  log(metrics);
  start_window();
  start_line();
}

void TrainingRun::log(const Metrics& metrics) {
  if (!ranks_.first()) return;
  metrics_->append(state_.step, metrics);
  events_->append(state_.step, metrics);
  const std::string problem = log_problem();
  if (!problem.empty() && !log_failed_) {
    progress_.clear();
    spdlog::warn("{}; training goes on, the rest will be tried again", problem);
  }
  log_failed_ = !problem.empty();
}

// Why not all metrics are in their files; empty if they are.
std::string TrainingRun::log_problem() {
  const std::string problem = metrics_->file().problem();
  return problem.empty() ? events_->file().problem() : problem;
}

// Errors on the tracks held out, of the live weights and of the averaged ones; false if stopped.
bool TrainingRun::evaluate() {
  const PhaseScope scope("evaluate");
  ranks_.phase("evaluate");
  const auto stop = [this] {
    ranks_.progress(state_.step);
    return stop_requested() != 0;
  };
  Metrics out = {{"epoch", static_cast<double>(state_.epoch)}};
  const auto add = [&](const std::string& prefix) {
    const std::vector<TrackPrediction> predictions = task_->predict_held_out(stop);
    if (agree_to_stop() || predictions.empty()) return false;
    const RegressionMetrics errors = metrics_of(predictions);
    errors_ = {.rmse = errors.rmse, .mae = errors.mae, .r2 = errors.r2};
    out.emplace_back(prefix + "_rmse", errors_.rmse);
    out.emplace_back(prefix + "_mae", errors_.mae);
    out.emplace_back(prefix + "_r2", errors_.r2);
    return true;
  };
  bool any = add(task_->evaluated());
  std::string text =
      any ? fmt::format("{} RMSE {:.4f} MAE {:.4f}", task_->evaluated(), errors_.rmse, errors_.mae)
          : "";
  if (any && average_ && average_->count() > 0) {
    const Averaged averaged(*average_);
    any = add("average");
    text += fmt::format(", averaged RMSE {:.4f} MAE {:.4f}", errors_.rmse, errors_.mae);
  }
  if (stopping()) return false;
  state_.evaluated_step = state_.step;
  changed_ = true;
  if (!any) return true;
  if (state_.best_rmse == 0 || errors_.rmse < state_.best_rmse) {
    state_.best_rmse = errors_.rmse;
    state_.best_step = state_.step;
  }
  out.emplace_back("train_seconds", state_.train_seconds);
  log(out);
  progress_.clear();
  spdlog::info("epoch {} (step {}): {}", state_.epoch, state_.step, text);
  note_progress();
  try {
    if (options_.report != nullptr && ranks_.first()) options_.report->update();
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    if (!report_failed_) spdlog::warn("{}; training goes on", error.what());
    report_failed_ = true;
  }
  return true;
}

// For the report; what this run stands at.
void TrainingRun::note_progress() {
  if (options_.report == nullptr || !ranks_.first()) return;
  options_.report->note({.step = state_.step,
                         .epoch = state_.epoch,
                         .evaluated = task_->evaluated(),
                         .errors = errors_,
                         .best_rmse = state_.best_rmse,
                         .best_step = state_.best_step,
                         .train_seconds = state_.train_seconds,
                         .parameters = task_->module().parameter_count()});
}

}  // namespace onpa::apps
