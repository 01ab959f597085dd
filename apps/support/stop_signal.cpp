#include "apps/support/stop_signal.h"

#include <signal.h>

#include <array>
#include <cstddef>
#include <mutex>
#include <new>

#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGUSR1};
volatile sig_atomic_t requested = 0;
std::array<struct sigaction, kSignals.size()> previous{};
std::mutex installing;
int installed = 0;  // ranks that are threads share the handlers

void on_signal(int number) {
  if (number == SIGINT && requested == SIGINT) {
    io::remove_unfinished_files();
    signal(SIGINT, SIG_DFL);
    raise(SIGINT);
  }
  requested = number;
}

}  // namespace

StopSignals::StopSignals() {
  const std::lock_guard lock(installing);
  if (installed++ > 0) return;
  requested = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  // oneDNN's generated code lets the stack pointer point into a buffer of the heap for a while: a
  // handler that went on from there would write over what lies before it.
  action.sa_flags = static_cast<int>(SA_RESTART | SA_ONSTACK);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &previous[i]);
}

StopSignals::~StopSignals() {
  const std::lock_guard lock(installing);
  if (--installed > 0) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous[i], nullptr);
}

void keep_stop_signals() {
  alignas(StopSignals) static std::byte never_destroyed[sizeof(StopSignals)];
  new (never_destroyed) StopSignals;
}

int stop_requested() {
  return requested;
}

}  // namespace onpa::apps
