// Counts what ThreadSanitizer reports, for programs built with it.
#pragma once

#include <functional>

namespace sim {

/// The reports while `f` runs, under the options as they are. A launch is abandoned soon after its
/// first report; outside of this function that is an Error.
int races(const std::function<void()>& f);

}  // namespace sim
