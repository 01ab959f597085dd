// How a run starts: rank 0 finds out, the others are told.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "apps/support/compute_device.h"
#include "apps/support/environment.h"
#include "apps/support/log.h"
#include "apps/training/rank_agreement.h"
#include "apps/training/start_weights.h"
#include "apps/training/training_run.h"
#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

std::string unwritten_metrics(const nn::CheckpointContent& content) {
  const auto found = content.text.find(kUnwrittenMetrics);
  return found == content.text.end() ? std::string() : found->second;
}

TrainState state_of(const nn::FoundCheckpoint& found) {
  const auto text = found.content.text.find("state.json");
  return text == found.content.text.end() ? TrainState() : TrainState::from_json(text->second);
}

}  // namespace

// Settings that shape the weights or what they are fed must be those of the checkpoint. Returns
// those that differ.
std::vector<std::string> TrainingRun::check_same_model(const nn::FoundCheckpoint& found) const {
  const auto text = found.content.text.find("config.toml");
  if (text == found.content.text.end()) return {};
  const Config before =
      parse_toml(config_.model.kind, text->second, (found.folder / "config.toml").string());
  const std::vector<std::string> changed = changed_keys(before, config_);
  // Other tracks, and other scales.
  const bool held_out = before.data.validation > 0 || config_.data.validation > 0;
  for (const std::string& key : changed) {
    if (key == "data.validation" || (key == "train.seed" && held_out)) {
      fail(ExitCode::kConfig, key, " differs from the checkpoint ", found.folder.string(),
           ": other tracks would be held out; use another --run");
    }
    if (key.rfind("model.", 0) == 0 || key == "mel.mels" || key == "data.standardize_target") {
      fail(ExitCode::kConfig, key, " differs from the checkpoint ", found.folder.string(),
           "; use another --run for another model",
           options_.init_from.empty() && state_of(found).start.value_or("") != ""
               ? ", or give --init-from as when the run began"
               : "");
    }
  }
  if (!changed.empty()) {
    spdlog::warn("settings changed since the checkpoint: {}", fmt::join(changed, ", "));
  }
  return changed;
}

void TrainingRun::resume_from(const nn::FoundCheckpoint& found, const Moments& moments) {
  const std::vector<std::string> changed = check_same_model(found);
  const bool same_frozen = std::ranges::find(changed, "train.freeze") == changed.end();
  state_ = restore_checkpoint(found.content, parts(), moments,
                              same_frozen ? NewMoments::kRefused : NewMoments::kZero);
  if (state_.data_hash != data_.hash) {
    spdlog::warn("the data set has changed since the checkpoint; the order of tracks with it");
    // It may be smaller; the epoch is over then.
    state_.cursor = std::min(state_.cursor, task_->samples_per_epoch());
  }
  spdlog::info("resuming at step {}, epoch {}, from {}", state_.step, state_.epoch + 1,
               found.folder.string());
}

// From here on the model, its gradients and the optimizer's state are where steps are taken.
void TrainingRun::choose_device() {
  const StepParts parts = {config_,
                           *task_,
                           params_,
                           optimizer_,
                           [this](std::int64_t step) { return scheduled_lr(step); },
                           &ranks_};
  const Compute compute =
      choose_compute({options_.device, config_.train.precision}, config_.model.kind);
  steps_ = start_steps(parts, compute, average_ ? &*average_ : nullptr);
}

// Opens the run folder and finds the starting point: a checkpoint, given weights, or fresh ones.
// The moments of the optimizer go to `moments`.
std::optional<nn::FoundCheckpoint> TrainingRun::find_start(const Moments& moments) {
  run_.emplace(options_.run);
  if (ranks_.processes()) io::make_folders(run_->logs());
  std::vector<std::string> skipped;
  auto found = nn::find_checkpoint(run_->checkpoints(), skipped);
  for (const std::string& reason : skipped) spdlog::warn("checkpoint passed over: {}", reason);
  if (options_.resume == "no" && (found || !skipped.empty())) {
    fail(ExitCode::kCannotCreate, run_->folder().string(),
         ": holds checkpoints already; use --resume auto to go on, or another --run");
  }
  if (!found && (options_.resume == "must" || !skipped.empty())) {
    fail(ExitCode::kBadCheckpoint, run_->folder().string(), ": no valid checkpoint to resume from");
  }
  if (found) {
    resume_from(*found, moments);
    try {
      nn::restore_links(run_->checkpoints(), state_.step, state_.best_step);
    } catch (const Error& error) {
      if (!is_disk_error(error)) throw;
      spdlog::warn("{}", error.what());
    }
  } else {
    task_->initialize(static_cast<std::uint64_t>(config_.train.seed));
    state_.start = options_.init_from.empty() ? "" : load_start(options_, *task_, params_);
    options_.start.reset();
  }
  if (config_.average.kind != "none") {
    average_.emplace(params_);  // starts as a copy of the weights, so they must be there
    if (found) restore_average(found->content, params_, *average_);
  }
  return found;
}

// All ranks go on from where rank 0 is.
void TrainingRun::share_start(const Moments& moments) {
  if (!ranks_.several()) return;
  state_ = TrainState::from_json(ranks_.broadcast_text(state_.to_json()));
  if (config_.average.kind != "none" && !average_) average_.emplace(params_);
  broadcast_state(ranks_, params_, optimizer_, moments, average_ ? &*average_ : nullptr);
}

void TrainingRun::start_files(const std::string& unwritten) {
  run_->write_text("config.resolved.toml", to_toml(config_));
  run_->write_text("env.json", environment_json() + "\n");
  metrics_.emplace(run_->metrics_file(), state_.step, state_.evaluated_step == state_.step,
                   unwritten);
  events_.emplace(run_->folder(), state_.step);
  if (state_.evaluated_step == state_.step) {
    for (const auto& [name, value] : last_evaluation(run_->metrics_file(), state_.step)) {
      if (name.ends_with("_rmse")) errors_.rmse = value;
      if (name.ends_with("_mae")) errors_.mae = value;
      if (name.ends_with("_r2")) errors_.r2 = value;
    }
  }
  note_progress();
  // Now, so that a file that cannot be written is known before the work.
  if (options_.report != nullptr) options_.report->update();
}

void TrainingRun::begin() {
  check_same_job(ranks_, options_, data_);
  std::string unwritten;
  {
    Moments moments;  // of all parameters; where they are kept in parts, until these are handed out
    ranks_.on_first([&] {
      moments = whole_moments(optimizer_, params_);
      if (const auto found = find_start(moments)) unwritten = unwritten_metrics(found->content);
    });
    if (ranks_.processes()) add_rank_log(RunDir::logs_of(options_.run), ranks_.rank());
    share_start(moments);
  }
  choose_device();
  start_profile();
  state_.data = std::filesystem::absolute(options_.data).lexically_normal().string();
  state_.data_hash = data_.hash;
  ranks_.on_first([&] { start_files(unwritten); });
  const std::int64_t passes = config_.train.accumulate;
  spdlog::info("{}: {} parameters; {} train samples, batch {}{}; {} steps{}", config_.model.preset,
               task_->module().parameter_count(), task_->samples_per_epoch(),
               config_.train.batch_size, passes > 1 ? fmt::format(" x {}", passes) : "",
               total_steps(), ranks_.several() ? fmt::format("; {} ranks", ranks_.size()) : "");
}

}  // namespace onpa::apps
