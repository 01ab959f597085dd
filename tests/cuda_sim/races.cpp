#include "tests/cuda_sim/races.h"

#include <utility>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

extern "C" {

// ThreadSanitizer calls this for every report. Programs without it have no use for it.
void __tsan_on_report(void*) {
  ++sim::detail::engine().races;
}

// Reports are counted by the tests, and each test wants its own, even where another test has had
// the same.
const char* __tsan_default_options() {
  return "exitcode=0:suppress_equal_stacks=0:suppress_equal_addresses=0:report_thread_leaks=0";
}

}  // extern "C"

namespace sim {

int races(const std::function<void()>& f) {
  detail::Engine& e = detail::engine();
  e.races = 0;
  e.counting_races = true;
  try {
    f();
  } catch (const Error&) {
    if (e.races == 0) {
      e.counting_races = false;
      throw;
    }
  }
  e.counting_races = false;
  return std::exchange(e.races, 0);
}

}  // namespace sim
