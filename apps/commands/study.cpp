#include "apps/commands/study.h"

#include "apps/study/study.h"
#include "apps/support/stop_signal.h"

namespace onpa::apps {

int run_study(const StudyArgs& args) {
  // To the end of the process, so that a signal never finds it without.
  keep_stop_signals();
  return run_study_plan(args);
}

}  // namespace onpa::apps
