// A run from its start, fresh or resumed, to its end.
#include "apps/study/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "apps/study/compute_device.h"
#include "apps/support/environment.h"
#include "apps/support/log.h"
#include "apps/support/stop_signal.h"
#include "data/table.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "tensor/op_scope.h"

namespace onpa::apps {
namespace {

// In a checkpoint: the lines of metrics.jsonl that could not be written until then.
constexpr const char* kUnwrittenMetrics = "unwritten_metrics.jsonl";

std::string unwritten_metrics(const nn::CheckpointContent& content) {
  const auto found = content.text.find(kUnwrittenMetrics);
  return found == content.text.end() ? std::string() : found->second;
}

}  // namespace

bool is_disk_error(const Error& error) {
  return error.code() == ExitCode::kIo || error.code() == ExitCode::kCannotCreate;
}

TrainingRun::TrainingRun(const TrainOptions& options)
    : options_(options),
      config_(options.config),
      data_(data::DataSet::load(options.data)),
      task_(config_.model.kind == "dense" ? make_dense_task(config_, data_)
                                          : make_passt_task(config_, data_)),
      run_(options.run),
      params_(task_->module().parameter_slots()),
      optimizer_(config_.optimizer(), params_),
      progress_(options.quiet) {}

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

// Settings that shape the weights or what they are fed must be those of the checkpoint.
void TrainingRun::check_same_model(const nn::FoundCheckpoint& found) const {
  const auto text = found.content.text.find("config.toml");
  if (text == found.content.text.end()) return;
  const Config before =
      parse_toml(config_.model.kind, text->second, (found.folder / "config.toml").string());
  std::string changed;
  for (const std::string& key : changed_keys(before, config_)) {
    if (key.rfind("model.", 0) == 0 || key == "mel.mels" || key == "data.standardize_target") {
      fail(ExitCode::kConfig, key, " differs from the checkpoint ", found.folder.string(),
           "; use another --run for another model");
    }
    changed += (changed.empty() ? "" : ", ") + key;
  }
  if (!changed.empty()) spdlog::warn("settings changed since the checkpoint: {}", changed);
}

void TrainingRun::resume_from(const nn::FoundCheckpoint& found) {
  check_same_model(found);
  state_ = restore_checkpoint(found.content, parts());
  if (state_.data_hash != data_.hash) {
    spdlog::warn("the data set has changed since the checkpoint; the order of tracks with it");
  }
  spdlog::info("resuming at step {}, epoch {}, from {}", state_.step, state_.epoch + 1,
               found.folder.string());
}

// From here on the model, its gradients and the optimizer's state are where steps are taken.
void TrainingRun::choose_device() {
  const StepParts parts = {config_, *task_, params_, optimizer_,
                           [this](std::int64_t step) { return scheduled_lr(step); }};
  const Compute compute =
      choose_compute({options_.device, config_.train.precision}, config_.model.kind);
  steps_ = start_steps(parts, compute, average_ ? &*average_ : nullptr);
}

// Finds the starting point: a checkpoint, given weights, or fresh ones.
void TrainingRun::begin() {
  std::vector<std::string> skipped;
  const auto found = nn::find_checkpoint(run_.checkpoints(), skipped);
  for (const std::string& reason : skipped) spdlog::warn("checkpoint passed over: {}", reason);
  if (options_.resume == "no" && (found || !skipped.empty())) {
    fail(ExitCode::kCannotCreate, run_.folder().string(),
         ": holds checkpoints already; use --resume auto to go on, or another --run");
  }
  if (!found && (options_.resume == "must" || !skipped.empty())) {
    fail(ExitCode::kBadCheckpoint, run_.folder().string(), ": no valid checkpoint to resume from");
  }
  if (found) {
    resume_from(*found);
  } else {
    task_->initialize(static_cast<std::uint64_t>(config_.train.seed));
    if (!options_.init_from.empty()) {
      restore_weights(io::read_safetensors(options_.init_from).tensors, params_);
    }
  }
  if (config_.average.kind != "none") {
    average_.emplace(params_);  // starts as a copy of the weights, so they must be there
    if (found) restore_average(found->content, params_, *average_);
  }
  choose_device();
  start_profile();
  state_.data = std::filesystem::absolute(options_.data).lexically_normal().string();
  state_.data_hash = data_.hash;
  run_.write_text("config.resolved.toml", to_toml(config_));
  run_.write_text("env.json", environment_json() + "\n");
  metrics_.emplace(run_.metrics_file(), state_.step, state_.evaluated_step == state_.step,
                   found ? unwritten_metrics(found->content) : "");
  events_.emplace(run_.folder(), state_.step);
  const std::int64_t passes = config_.train.accumulate;
  spdlog::info("{}: {} parameters; {} train samples, batch {}{}; {} steps", config_.model.preset,
               task_->module().parameter_count(), task_->samples_per_epoch(),
               config_.train.batch_size, passes > 1 ? fmt::format(" x {}", passes) : "",
               total_steps());
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
  while (!done() && !stop_requested()) {
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

// False if the checkpoint could not be written; older ones are still there.
bool TrainingRun::save() {
  const PhaseScope scope("checkpoint");
  bool finite = all_finite(params_.data()) && (!average_ || all_finite(average_->data()));
  for (const auto& [name, buffer] : optimizer_.state()) finite = finite && all_finite(buffer);
  if (!finite) {
    fail(ExitCode::kDiverged, "diverged: weights or moments are not finite at step ", state_.step,
         "; nothing was saved over the last checkpoint");
  }
  const double epochs = static_cast<double>(state_.samples) /
                        static_cast<double>(std::max<std::int64_t>(1, task_->samples_per_epoch()));
  state_.hours_per_epoch = epochs > 0 ? state_.train_seconds / epochs / 3600 : 0;
  flush_log(false);  // a checkpoint must not outlive the metrics that led to it
  try {
    nn::CheckpointContent content = make_checkpoint(state_, parts(), task_->card(), config_);
    if (const std::string lines = metrics_->unwritten(); !lines.empty()) {
      content.text[kUnwrittenMetrics] = lines;
    }
    nn::save_checkpoint(run_.checkpoints(), content, static_cast<int>(config_.train.keep));
    if (state_.best_step == state_.step && state_.evaluated_step == state_.step) {
      nn::mark_best(run_.checkpoints(), state_.step);
    }
    save_failed_ = changed_ = false;
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    progress_.clear();
    spdlog::warn("checkpoint at step {} not saved: {}; training goes on", state_.step,
                 error.what());
    save_failed_ = true;
  }
  return !save_failed_;
}

void TrainingRun::flush_log(bool last) {
  for (io::AppendFile* file : {&metrics_->file(), &events_->file()}) {
    last ? file->close() : file->sync();
  }
}

// RUN/bad_tracks.csv: every track that could not be used, those of earlier starts included. False
// if it cannot be written.
bool TrainingRun::write_bad_tracks() {
  const std::vector<data::BadTrack> bad = task_->bad_tracks();
  if (bad.empty()) return true;
  const std::filesystem::path file = run_.folder() / "bad_tracks.csv";
  std::vector<std::vector<std::string>> rows;
  if (state_.step > 0 && std::filesystem::exists(file)) {
    const data::Table old = data::Table::read_csv(file);
    for (std::int64_t r = 0; r < old.rows() && old.columns().size() == 3; ++r) {
      rows.push_back(
          {std::string(old.cell(r, 0)), std::string(old.cell(r, 1)), std::string(old.cell(r, 2))});
    }
  }
  for (const data::BadTrack& track : bad) {
    const std::string& id = data_.tracks[static_cast<std::size_t>(track.row)].id;
    const bool known =
        std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row[0] == id; });
    if (!known) rows.push_back({id, track.path, track.reason});
  }
  std::string text = data::csv_line({"id", "path", "reason"});
  for (const auto& row : rows) text += data::csv_line(row);
  try {
    run_.write_text("bad_tracks.csv", text);
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    spdlog::error("{} tracks could not be read and were left out, the first {}: {}; {}",
                  rows.size(), rows.front()[1], rows.front()[2], error.what());
    return false;
  }
  spdlog::warn("{} tracks could not be read and were left out; see {}", rows.size(), file.string());
  return true;
}

int TrainingRun::finish() {
  progress_.clear();
  const bool stopped = stop_requested() != 0 && !done();
  if (!stopped && state_.evaluated_step != state_.step && state_.step > 0) evaluate();
  if (changed_) save();
  report_profile();
  bool written = write_bad_tracks();
  if (profile_failed_) {
    spdlog::error("the profile could not be written to {}", run_.folder().string());
    written = false;
  }
  if (save_failed_) {
    spdlog::error("the last checkpoint could not be written to {}", run_.checkpoints().string());
    written = false;
  }
  if (config_.train.gemm_tuning) {
    for (const std::string& choice : kernels::gemm_choices()) spdlog::info("{}", choice);
  }
  flush_log(true);  // after the save, which may have made room
  if (const std::string problem = log_problem(); !problem.empty()) {
    spdlog::error("not all metrics are written: {}", problem);
    written = false;
  }
  if (!written) {
    spdlog::info("ended at step {}; with room on the disk the same command goes on", state_.step);
    return static_cast<int>(ExitCode::kIo);
  }
  if (stopped) {
    spdlog::info("stopped at step {}; the same command goes on from there", state_.step);
    return static_cast<int>(ExitCode::kStopped);
  }
  if (state_.best_rmse > 0) {
    spdlog::info(
        "lowest test RMSE {:.4f}, at step {}; picked on the test split, so no unbiased estimate",
        state_.best_rmse, state_.best_step);
  }
  spdlog::info("{} steps, {:.3g} h an epoch, {:.3g} samples/s, {:.3g} min of training", state_.step,
               state_.hours_per_epoch,
               static_cast<double>(state_.samples) / std::max(state_.train_seconds, 1e-9),
               state_.train_seconds / 60);
  spdlog::info("checkpoint {}, the newest; evaluate it with: onpa eval --run {}",
               (run_.checkpoints() / "last").string(), run_.folder().string());
  return 0;
}

int TrainingRun::run() {
  begin();
  try {
    train_epochs();
  } catch (const Error& error) {
    progress_.clear();
    if (error.code() == ExitCode::kBadData) {
      if (changed_) save();
      write_bad_tracks();
    }
    throw;
  }
  return finish();
}

int train(const TrainOptions& options) {
  const StopSignals signals;
  return TrainingRun(options).run();
}

}  // namespace onpa::apps
