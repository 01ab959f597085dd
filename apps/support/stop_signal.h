// Asking a run to stop: SIGINT, SIGTERM and SIGUSR1 set a flag that the training loop looks at
// between steps.
#pragma once

namespace onpa::apps {

/// Installs the handlers while one lives, in any thread. A second SIGINT ends the process at once.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
};

/// Installs them to the end of the process.
void keep_stop_signals();

/// The signal that asked to stop, or 0.
int stop_requested();

}  // namespace onpa::apps
