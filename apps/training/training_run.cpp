// A run from epoch to epoch, with its checkpoints.
#include "apps/training/training_run.h"

#include <algorithm>

#include "apps/support/log.h"
#include "apps/support/process.h"
#include "apps/support/stop_signal.h"
#include "apps/training/rank_agreement.h"
#include "apps/training/start_weights.h"
#include "dist/alone.h"
#include "kernels/error.h"
#include "tensor/op_scope.h"

namespace onpa::apps {

bool is_disk_error(const Error& error) {
  return error.code() == ExitCode::kIo || error.code() == ExitCode::kCannotCreate;
}

TrainingRun::TrainingRun(const TrainOptions& options, const data::DataSet& data, Ranks& ranks)
    : options_(options),
      config_(options.config),
      data_(data),
      ranks_(ranks),
      task_(config_.model.kind == "dense" ? make_dense_task(config_, data_, ranks.shard())
                                          : make_passt_task(config_, data_, {}, ranks.shard())),
      params_(task_->module().parameter_slots()),
      optimizer_(config_.optimizer(), params_,
                 optimizer_shard(config_.train.shard_optimizer, ranks)),
      progress_(options.quiet || !ranks.first()) {}

bool TrainingRun::out_of_steps() const {
  return config_.train.max_steps > 0 && state_.step >= config_.train.max_steps;
}

std::int64_t TrainingRun::steps_per_epoch() const {
  const std::int64_t passes = config_.train.accumulate;
  return (task_->batches_per_epoch() + passes - 1) / passes;
}

std::int64_t TrainingRun::total_steps() const {
  const std::int64_t all = steps_per_epoch() * config_.train.epochs;
  return config_.train.max_steps > 0 ? std::min(all, config_.train.max_steps) : all;
}

// Whether one rank was asked to stop, as far as all know.
bool TrainingRun::stopping() const {
  return stopping_ || (!ranks_.several() && stop_requested() != 0);
}

// The same, after all have told each other; a point that all come to.
bool TrainingRun::agree_to_stop() {
  stopping_ = stopping_ || ranks_.any(stop_requested() != 0);
  return stopping_;
}

// After the last batch of an epoch: evaluation and a checkpoint, where they are due.
void TrainingRun::close_epoch() {
  const bool last = done();
  const std::int64_t every = config_.train.eval_epochs;
  if (last || (every > 0 && state_.epoch % every == 0)) {
    if (!evaluate()) return;
  }
  state_.epoch_closed = true;
  changed_ = true;
  const std::int64_t saves = config_.train.checkpoint_epochs;
  if (last || (saves > 0 && state_.epoch % saves == 0)) save();
}

void TrainingRun::train_epochs() {
  if (!state_.epoch_closed) close_epoch();
  while (!done() && !agree_to_stop()) {
    if (!run_epoch()) return;
    ++state_.epoch;
    state_.cursor = 0;
    state_.epoch_first_step = state_.step;
    state_.epoch_closed = false;
    changed_ = true;
    if (config_.average.kind == "swa" && state_.epoch >= config_.average.swa_start_epoch &&
        (state_.epoch - config_.average.swa_start_epoch) % config_.average.swa_every_epochs == 0) {
      average_->update_swa();
    }
    close_epoch();
  }
}

// Ranks whose weights have come apart train on different models: no checkpoint is to hold one.
void TrainingRun::check_same_weights() {
  if (!ranks_.several()) return;
  ranks_.phase("compare weights");
  const std::vector<int> odd = odd_ranks(ranks_.all_gather(hash_of(params_.data())));
  if (odd.empty()) return;
  fail(ExitCode::kDevice, name_ranks(odd), ": not the weights of the other ranks at step ",
       state_.step,
       "; a fault of memory or arithmetic there? Nothing was saved; the same command "
       "goes on from the last checkpoint");
}

// False if the checkpoint could not be written; older ones are still there.
bool TrainingRun::save() {
  const PhaseScope scope("checkpoint");
  check_same_weights();
  ranks_.phase("checkpoint");
  bool finite = all_finite(params_.data()) && (!average_ || all_finite(average_->data()));
  for (const auto& [name, buffer] : optimizer_.state()) finite = finite && all_finite(buffer);
  if (ranks_.any(!finite)) {
    fail(ExitCode::kDiverged, "diverged: weights or moments are not finite at step ", state_.step,
         "; nothing was saved over the last checkpoint");
  }
  const double epochs = static_cast<double>(state_.samples) /
                        static_cast<double>(std::max<std::int64_t>(1, task_->samples_per_epoch()));
  state_.hours_per_epoch = epochs > 0 ? state_.train_seconds / epochs / 3600 : 0;
  const Moments moments = gather_moments(ranks_, optimizer_, params_);
  ranks_.on_first([&] { write_checkpoint(moments); });
  save_failed_ = ranks_.any(save_failed_);
  if (!save_failed_) changed_ = false;
  ranks_.progress(state_.step);
  return !save_failed_;
}

void TrainingRun::write_checkpoint(const Moments& moments) {
  flush_log(false);  // a checkpoint must not outlive the metrics that led to it
  try {
    nn::CheckpointContent content =
        make_checkpoint(state_, parts(), moments, task_->card(), config_);
    if (const std::string lines = metrics_->unwritten(); !lines.empty()) {
      content.text[kUnwrittenMetrics] = lines;
    }
    nn::save_checkpoint(run_->checkpoints(), content, static_cast<int>(config_.train.keep));
    if (state_.best_step == state_.step && state_.evaluated_step == state_.step) {
      nn::mark_best(run_->checkpoints(), state_.step);
    }
    save_failed_ = false;
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    progress_.clear();
    spdlog::warn("checkpoint at step {} not saved: {}; training goes on", state_.step,
                 error.what());
    save_failed_ = true;
  }
}

void TrainingRun::flush_log(bool last) {
  for (io::AppendFile* file : {&metrics_->file(), &events_->file()}) {
    last ? file->close() : file->sync();
  }
}

int TrainingRun::run() {
  ranks_.start_watch(config_.train.stall_seconds);
  begin();
  const Unfinished mark;  // a newer one, as there are threads and buffers now
  try {
    train_epochs();
  } catch (const Error& error) {
    progress_.clear();
    note_progress();
    if (error.code() == ExitCode::kBadData) {  // which all ranks meet together
      if (changed_) save();
      write_bad_tracks();
    }
    throw;
  }
  return finish();
}

int train(const TrainOptions& options, const data::DataSet& data, Ranks& ranks) {
  const StopSignals signals;
  TrainOptions started = with_start(options, data, ranks);
  TrainingRun run(started, data, ranks);
  started.start.reset();  // the run lets go of the weights when it has copied them
  return run.run();
}

int train(const TrainOptions& options) {
  const data::DataSet data = data::DataSet::load(options.data);
  dist::Alone alone;
  Ranks ranks(alone);
  return train(options, data, ranks);
}

}  // namespace onpa::apps
