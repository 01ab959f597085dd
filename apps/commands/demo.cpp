#include "apps/study/demo.h"

#include "apps/commands/commands.h"

namespace onpa::apps {

int run_demo(const DemoArgs& args) {
  return run_demo_plan(demo_plan(args));
}

}  // namespace onpa::apps
