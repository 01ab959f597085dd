// One of the processes that a launcher has started to train together, from joining the others to
// the exit code.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "apps/training/ranks.h"

namespace onpa::apps {

/// The rank of this process, if its launcher has told it in the environment; else 0.
int launched_rank();

/// Says on stderr why this process ends before it has joined the others. They most often end for
/// the same reason, so rank 0 speaks first, and the launcher then ends the others before they do.
void complain_alone(const std::string& message);

/// Calls body(ranks) as one of the ranks and returns the exit code of the job. If ranks fail
/// together, one of them says why, and all return its code. If this one fails alone, it says so and
/// ends the job.
int run_as_rank(const std::function<int(Ranks&)>& body);

/// What run_as_rank() does when the body has thrown: tells the others, and finds out whether they
/// end too. Returns the code of the rank that speaks for all; nothing if ranks go on without this.
struct CommonEnd {
  int code = 0;
  bool speaks = false;  // this rank
};
std::optional<CommonEnd> end_together(Ranks& ranks, const std::exception& error);

}  // namespace onpa::apps
