// The schedules under which a test of a kernel runs.
#pragma once

#include <functional>

#ifdef ONPA_CUDA_SIM
#include <gtest/gtest.h>

#include "tests/cuda_sim/control.h"
#endif

namespace onpa::testing {

/// Calls f: once on a GPU, in the simulator under each of sim::for_schedules.
inline void for_schedules(const std::function<void()>& f) {
#ifdef ONPA_CUDA_SIM
  sim::for_schedules([&f] {
    SCOPED_TRACE(sim::schedule_name());
    f();
  });
#else
  f();
#endif
}

}  // namespace onpa::testing
