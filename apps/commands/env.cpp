#include <fmt/core.h>

#include "apps/commands/commands.h"
#include "apps/support/environment.h"

namespace onpa::apps {

int run_env(const EnvArgs& args) {
  if (args.json) {
    fmt::print("{}\n", environment_json());
    return 0;
  }
  for (const auto& [name, value] : describe_environment()) fmt::print("{:<12} {}\n", name, value);
  return 0;
}

}  // namespace onpa::apps
