// The command's log: plain lines on stderr.
#pragma once

#include <spdlog/spdlog.h>

namespace onpa::apps {

/// Sends spdlog to stderr as "onpa: message" ("onpa: warning: message"); `quiet` keeps warnings
/// and errors only.
void set_up_log(bool quiet);

}  // namespace onpa::apps
