// The fault hook of tensor/io/file.h, apart from the code that it interrupts.
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::io {
namespace {

enum class Action { kNone, kKill, kEnospc, kEio };

struct Plan {
  std::int64_t operation = 0;
  Action action = Action::kNone;
};

Plan parse(const char* text) {
  if (text == nullptr || *text == '\0') return {};
  const std::string_view whole(text), site = "checkpoint:";
  const std::size_t colon = whole.rfind(':');
  Plan plan;
  if (whole.starts_with(site) && colon >= site.size()) {
    const std::string_view number = whole.substr(site.size(), colon - site.size());
    const std::string_view action = whole.substr(colon + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), plan.operation);
    const bool number_ok = error == std::errc() && end == number.data() + number.size();
    if (action == "kill") plan.action = Action::kKill;
    if (action == "enospc") plan.action = Action::kEnospc;
    if (action == "eio") plan.action = Action::kEio;
    if (number_ok && plan.operation >= 1 && plan.action != Action::kNone) return plan;
  }
  fail(ExitCode::kConfig, "ONPA_FAULT is \"", whole, "\", want checkpoint:N:kill|enospc|eio");
}

thread_local int scopes = 0;
thread_local Plan plan;
std::atomic<std::int64_t> operations{0};

}  // namespace

FaultScope::FaultScope() {
  plan = parse(std::getenv("ONPA_FAULT"));
  ++scopes;
}
FaultScope::~FaultScope() {
  --scopes;
}

bool fault_point() {
  if (scopes == 0 || plan.action == Action::kNone || ++operations != plan.operation) return true;
  if (plan.action == Action::kKill) std::raise(SIGKILL);
  errno = plan.action == Action::kEnospc ? ENOSPC : EIO;
  return false;
}

}  // namespace onpa::io
