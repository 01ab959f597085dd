#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/error.h"

namespace onpa::nn {
namespace {

void require(bool ok, const char* name, double value, const char* want) {
  if (!ok) fail(ExitCode::kConfig, "schedule: ", name, " is ", value, ", want ", want);
}

void check_config(const ScheduleConfig& c, double epoch) {
  const bool decays = c.kind == "linear" || c.kind == "cosine";
  if (!decays && c.kind != "constant" && c.kind != "passt") {
    fail(ExitCode::kConfig, "schedule: unknown kind \"", c.kind,
         "\", want constant, linear, cosine or passt");
  }
  require(std::isfinite(epoch) && epoch >= 0, "epoch", epoch, "0 or more");
  require(std::isfinite(c.warmup_epochs) && c.warmup_epochs >= 0, "warmup_epochs", c.warmup_epochs,
          "0 or more");
  require(c.floor >= 0 && c.floor <= 1, "floor", c.floor, "[0, 1]");
  if (decays) {
    require(std::isfinite(c.total_epochs) && c.total_epochs > c.warmup_epochs, "total_epochs",
            c.total_epochs, "more than warmup_epochs");
  }
  if (c.kind == "passt") {
    require(std::isfinite(c.ramp_start) && c.ramp_start >= 0, "ramp_start", c.ramp_start,
            "0 or more");
    require(std::isfinite(c.ramp_epochs) && c.ramp_epochs > 0, "ramp_epochs", c.ramp_epochs,
            "more than 0");
  }
}

// Warm-up exp(-5 (1 - e / warmup)^2) with e at least 0.5, times a linear ramp down to the floor.
double passt_multiplier(const ScheduleConfig& c, double epoch) {
  const double e = std::floor(epoch);
  double warmup = 1;
  if (e < c.warmup_epochs) {
    const double phase = 1 - std::min(std::max(e, 0.5), c.warmup_epochs) / c.warmup_epochs;
    warmup = std::exp(-5 * phase * phase);
  }
  const double left = std::clamp((c.ramp_start + c.ramp_epochs - e) / c.ramp_epochs, 0.0, 1.0);
  return warmup * (c.floor + (1 - c.floor) * left);
}

}  // namespace

double lr_multiplier(const ScheduleConfig& config, double epoch) {
  check_config(config, epoch);
  if (config.kind == "constant") return 1;
  if (config.kind == "passt") return passt_multiplier(config, epoch);
  if (epoch < config.warmup_epochs) return epoch / config.warmup_epochs;
  const double progress =
      std::min(1.0, (epoch - config.warmup_epochs) / (config.total_epochs - config.warmup_epochs));
  const double left =
      config.kind == "linear" ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return config.floor + (1 - config.floor) * left;
}

}  // namespace onpa::nn
