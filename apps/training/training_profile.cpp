// The profile of some steps of a run.
#include <cstdio>

#include "apps/support/log.h"
#include "apps/training/profile_report.h"
#include "apps/training/training_run.h"
#include "kernels/error.h"

namespace onpa::apps {
void TrainingRun::start_profile() {
  if (!options_.profile) return;
  profiler_.emplace(*options_.profile, params_.data().device(), params_.compute().dtype());
}

// Of the steps recorded so far; later ones are not recorded any more.
void TrainingRun::report_profile() {
  if (!profiler_) return;
  const ProfileWindow window = profiler_->window();
  const Profile profile = profiler_->profile();
  profiler_.reset();
  if (!ranks_.first()) return;
  progress_.clear();
  if (profile.spans.empty()) {
    spdlog::warn("profile: no step from {} to {} was taken, the run has ended at step {}",
                 window.begin, window.end - 1, state_.step);
    return;
  }
  const ProfileTable table = profile_table(profile);
  std::fputs(profile_text(table).c_str(), stdout);
  std::fflush(stdout);
  try {
    write_profile(run_->folder(), profile, table);
    spdlog::info("profile: {} opens in chrome://tracing and ui.perfetto.dev",
                 (run_->folder() / "profile.json").string());
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    spdlog::warn("profile not written: {}; training goes on", error.what());
    profile_failed_ = true;
  }
  start_window();  // the time that this took is no step's
}

}  // namespace onpa::apps
