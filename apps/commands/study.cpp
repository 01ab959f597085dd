#include "apps/commands/study.h"

#include "apps/study/study.h"
#include "apps/support/stop_signal.h"

namespace onpa::apps {

int run_study(const StudyArgs& args) {
  // To the end of the process, so that a signal never finds it without.
  static const auto* const signals = new StopSignals;
  static_cast<void>(signals);
  return run_study_plan(args);
}

}  // namespace onpa::apps
