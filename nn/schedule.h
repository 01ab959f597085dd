// Learning-rate schedules: a multiplier of the peak rate.
#pragma once

#include <string>

namespace onpa::nn {

struct ScheduleConfig {
  std::string kind = "constant";  // constant | linear | cosine | passt
  double warmup_epochs = 0;       // linear and cosine: linear from 0; passt: exponential
  double total_epochs = 1;        // linear and cosine: where the multiplier reaches `floor`
  double floor = 0.01;            // final multiplier, [0, 1]
  double ramp_start = 50, ramp_epochs = 50;  // passt: linear from 1 to floor
};

/// Multiplier at `epoch` (fractional within an epoch; `passt` uses its whole part, as the public
/// code steps once an epoch). Throws Error (kConfig) for an unknown kind or a value out of range.
double lr_multiplier(const ScheduleConfig& config, double epoch);

}  // namespace onpa::nn
