// The profile of some steps of a run.
#include <fmt/format.h>

#include <cstdio>

#include "apps/study/profile_report.h"
#include "apps/study/training_run.h"
#include "apps/support/log.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

std::string device_text(const Profile& profile) {
  if (profile.device == DeviceKind::kCuda) {
    return fmt::format("{} in {}", cuda_device().name, name_of(profile.dtype));
  }
  const int threads = kernels::thread_count();
  return fmt::format("the CPU ({} thread{})", threads, threads == 1 ? "" : "s");
}

// None, with a warning, where the GPU lacks the memory to measure them: training goes on.
Roofline limits_of(const Profile& profile) {
  try {
    return measured_roofline(profile.device, profile.dtype);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kOutOfMemory) throw;
    spdlog::warn("profile: the limits of the device could not be measured: {}", error.what());
    return {};
  }
}

}  // namespace

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
  progress_.clear();
  if (profile.spans.empty()) {
    spdlog::warn("profile: no step from {} to {} was taken, the run has ended at step {}",
                 window.begin, window.end - 1, state_.step);
    return;
  }
  const ProfileTable table = profile_table(profile, device_text(profile), limits_of(profile));
  std::fputs(profile_text(table).c_str(), stdout);
  std::fflush(stdout);
  try {
    write_profile(run_.folder(), profile, table);
    spdlog::info("profile: {} opens in chrome://tracing and ui.perfetto.dev",
                 (run_.folder() / "profile.json").string());
  } catch (const Error& error) {
    if (!is_disk_error(error)) throw;
    spdlog::warn("profile not written: {}; training goes on", error.what());
    profile_failed_ = true;
  }
  start_window();  // the time that this took is no step's
}

}  // namespace onpa::apps
