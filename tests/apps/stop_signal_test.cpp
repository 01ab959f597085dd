#include "apps/support/stop_signal.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace onpa::apps {
namespace {

// In oneDNN's generated code the stack pointer may point into the heap.
TEST(StopSignals, AreHandledOnAStackOfTheirOwn) {
  struct sigaction before {
  }, action{}, after{};
  sigaction(SIGTERM, nullptr, &before);
  {
    const StopSignals signals;
    for (const int number : {SIGINT, SIGTERM, SIGUSR1}) {
      sigaction(number, nullptr, &action);
      EXPECT_NE(action.sa_flags & SA_ONSTACK, 0) << number;
    }
    raise(SIGTERM);
    EXPECT_EQ(stop_requested(), SIGTERM);
  }
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
}

}  // namespace
}  // namespace onpa::apps
