// Within an epoch: steps, their report, and evaluation.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>

#include "apps/study/training_run.h"
#include "apps/support/log.h"
#include "apps/support/stop_signal.h"
#include "kernels/error.h"
#include "nn/schedule.h"
#include "tensor/autograd.h"

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

// Runs the epoch from state_.cursor; false if it was left before its end.
bool TrainingRun::run_epoch() {
  task_->start_epoch(static_cast<std::uint64_t>(state_.epoch), state_.cursor);
  task_->module().train(true);
  start_window();
  while (true) {
    if (stop_requested() || out_of_steps()) return false;
    const double begin = monotonic_seconds();
    const bool stepped = step();
    state_.train_seconds += monotonic_seconds() - begin;
    if (!stepped) return true;
    if (config_.train.checkpoint_steps > 0 && state_.step % config_.train.checkpoint_steps == 0) {
      save();
    }
  }
}

// One optimizer step over up to `accumulate` forward passes; false when the epoch has none left.
bool TrainingRun::step() {
  if (gpu_) return step_on_gpu();
  params_.clear_grad();
  double loss = 0;
  std::int64_t passes = 0, samples = 0, cursor = state_.cursor;
  for (; passes < config_.train.accumulate; ++passes) {
    const std::int64_t draw = state_.step * config_.train.accumulate + passes;
    HostBatch batch;
    if (!task_->next_batch(static_cast<std::uint64_t>(draw), batch)) break;
    const Tensor part = task_->loss(batch.inputs, static_cast<std::uint64_t>(draw));
    const double value = part.item();
    loss += value;
    if (std::isfinite(value)) backward(part);
    cursor = batch.cursor;
    samples += batch.samples;
  }
  if (passes == 0) return false;
  // Nothing of the state changes before all passes are through: an error in between leaves a state
  // that can be saved.
  state_.cursor = cursor;
  state_.samples += samples;
  window_.samples += samples;
  changed_ = true;
  lr_ = scheduled_lr();
  double norm = std::nan("");
  if (std::isfinite(loss)) {
    params_.finish_grad();
    norm = optimizer_.step(static_cast<float>(lr_), 1.0f / static_cast<float>(passes));
  }
  finish_step(loss / static_cast<double>(passes), norm);
  return true;
}

// As step(); the GPU itself leaves out an update whose gradient is not finite.
bool TrainingRun::step_on_gpu() {
  std::int64_t passes = 0, samples = 0, cursor = state_.cursor;
  for (; passes < config_.train.accumulate; ++passes) {
    const std::int64_t draw = state_.step * config_.train.accumulate + passes;
    HostBatch batch;
    if (!task_->next_batch(static_cast<std::uint64_t>(draw), batch)) break;
    gpu_->queue_pass(batch, static_cast<std::uint64_t>(draw), passes == 0);
    cursor = batch.cursor;
    samples += batch.samples;
  }
  if (passes == 0) return false;
  lr_ = scheduled_lr();
  gpu_->queue_update(lr_, passes);
  const DeviceSteps::Result result = gpu_->wait();
  state_.cursor = cursor;
  state_.samples += samples;
  window_.samples += samples;
  changed_ = true;
  finish_step(result.loss, result.norm);
  return true;
}

double TrainingRun::scheduled_lr() const {
  const double within = static_cast<double>(state_.step - state_.epoch_first_step) /
                        static_cast<double>(std::max<std::int64_t>(1, steps_per_epoch()));
  const double epoch = static_cast<double>(state_.epoch) + std::min(within, 1.0);
  return config_.train.lr * nn::lr_multiplier(config_.lr_schedule(), epoch);
}

// Counts a step whose update has been made, or left out where `norm` is not finite.
void TrainingRun::finish_step(double loss, double norm) {
  grad_norm_ = norm;
  ++state_.step;
  if (std::isfinite(grad_norm_)) {
    state_.nonfinite_run = 0;
    if (config_.average.kind == "ema") {
      average_->update_ema(config_.average.ema_decay);
    }
  } else {
    skip_step(loss);
  }
  report_step(loss);
}

void TrainingRun::skip_step(double loss) {
  ++state_.nonfinite_run;
  ++state_.nonfinite_total;
  progress_.clear();
  spdlog::warn("step {}: loss {}, gradient norm {}: step skipped", state_.step, loss, grad_norm_);
  if (state_.nonfinite_run >= config_.train.max_nonfinite) {
    fail(ExitCode::kDiverged, "diverged: ", state_.nonfinite_run,
         " steps in a row without a finite loss and gradient, the last one step ", state_.step,
         "; try a lower train.lr or optim.clip_norm=1");
  }
}

void TrainingRun::start_window() {
  window_ = {};
  window_.begin_seconds = monotonic_seconds();
  window_.wait_seconds = task_->wait_seconds();
}

ProgressState TrainingRun::window_state() const {
  const double seconds = std::max(monotonic_seconds() - window_.begin_seconds, 1e-9);
  const auto steps = static_cast<double>(window_.steps);
  ProgressState out;
  out.step = state_.step;
  out.total_steps = total_steps();
  out.epoch = state_.epoch + 1;
  out.epochs = config_.train.epochs;
  out.loss = window_.loss / steps;
  out.lr = lr_;
  out.clips_per_second = static_cast<double>(window_.samples) / seconds;
  out.wait_fraction = (task_->wait_seconds() - window_.wait_seconds) / seconds;
  out.memory_bytes = resident_bytes();
  out.eta_seconds = static_cast<double>(out.total_steps - out.step) * seconds / steps;
  return out;
}

void TrainingRun::report_step(double loss) {
  ++window_.steps;
  window_.loss += loss;
  const bool line = state_.step % config_.train.log_steps == 0;
  if (!line && !progress_.wants_update()) return;
  const ProgressState now = window_state();
  progress_.update(now, line);
  if (!line) return;
  log({{"epoch", static_cast<double>(now.epoch)},
       {"loss", now.loss},
       {"lr", lr_},
       {"grad_norm", grad_norm_},
       {"clips_per_second", now.clips_per_second},
       {"data_wait", now.wait_fraction},
       {"memory_bytes", now.memory_bytes}});
  start_window();
}

void TrainingRun::log(const Metrics& metrics) {
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

// Errors on the test split, of the live weights and of the averaged ones; false if stopped.
bool TrainingRun::evaluate() {
  const auto stop = [] { return stop_requested() != 0; };
  Metrics out = {{"epoch", static_cast<double>(state_.epoch)}};
  const auto add = [&](const std::string& prefix) {
    const std::vector<TrackPrediction> predictions = task_->predict_test(stop);
    if (stop() || predictions.empty()) return false;
    last_test_ = metrics_of(predictions);
    out.emplace_back(prefix + "_rmse", last_test_.rmse);
    out.emplace_back(prefix + "_mae", last_test_.mae);
    out.emplace_back(prefix + "_r2", last_test_.r2);
    return true;
  };
  bool any = add("test");
  std::string text =
      any ? fmt::format("test RMSE {:.4f} MAE {:.4f}", last_test_.rmse, last_test_.mae) : "";
  if (any && average_ && average_->count() > 0) {
    const Averaged averaged(*average_);
    any = add("average");
    text += fmt::format(", averaged RMSE {:.4f} MAE {:.4f}", last_test_.rmse, last_test_.mae);
  }
  if (stop()) return false;
  state_.evaluated_step = state_.step;
  changed_ = true;
  if (!any) return true;
  if (state_.best_rmse == 0 || last_test_.rmse < state_.best_rmse) {
    state_.best_rmse = last_test_.rmse;
    state_.best_step = state_.step;
  }
  out.emplace_back("train_seconds", state_.train_seconds);
  log(out);
  progress_.clear();
  spdlog::info("epoch {} (step {}): {}", state_.epoch, state_.step, text);
  return true;
}

}  // namespace onpa::apps
