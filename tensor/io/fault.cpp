#include "tensor/io/fault.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/error.h"

namespace onpa::io {
namespace {

enum class Action { kNone, kKill, kEnospc, kEio };

// In the order of FileKind.
constexpr std::array<std::string_view, 10> kKinds = {
    "checkpoint", "run", "metrics", "events", "data", "tables", "npy", "cache", "corpus", "demo"};
static_assert(kKinds.size() == static_cast<std::size_t>(FileKind::kDemo) + 1);
constexpr int kNoKind = -1;

struct Plan {
  int kind = kNoKind;
  std::int64_t operation = 0;
  bool stays = false;
  Action action = Action::kNone;
};

// Takes what stands before the first ':' off `text`.
std::string_view take_part(std::string_view& text) {
  const std::size_t colon = text.find(':');
  const std::string_view part = text.substr(0, colon);
  text = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  return part;
}

Plan parse(const char* value) {
  if (value == nullptr || *value == '\0') return {};
  std::string_view text(value);
  Plan plan;
  const std::string_view kind = take_part(text);
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    if (kKinds[i] == kind) plan.kind = static_cast<int>(i);
  }
  std::string_view number = take_part(text);
  plan.stays = number.ends_with('+');
  if (plan.stays) number.remove_suffix(1);
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), plan.operation);
  const bool number_ok = error == std::errc() && end == number.data() + number.size();
  if (text == "kill") plan.action = Action::kKill;
  if (text == "enospc") plan.action = Action::kEnospc;
  if (text == "eio") plan.action = Action::kEio;
  if (plan.kind != kNoKind && number_ok && plan.operation >= 1 && plan.action != Action::kNone) {
    return plan;
  }
  std::string kinds;
  for (const std::string_view name : kKinds)
    kinds += (kinds.empty() ? "" : "|") + std::string(name);
  fail(ExitCode::kConfig, "ONPA_FAULT is \"", value, "\", want ", kinds,
       ":N:kill|enospc|eio, or N+ for the N-th and all later operations");
}

thread_local int current_kind = kNoKind;
thread_local Plan plan;
std::atomic<std::int64_t> operations{0};

}  // namespace

FaultScope::FaultScope(FileKind kind) : outer_(current_kind) {
  plan = parse(std::getenv("ONPA_FAULT"));
  current_kind = static_cast<int>(kind);
}
FaultScope::~FaultScope() {
  current_kind = outer_;
}

bool fault_point() {
  if (current_kind == kNoKind || plan.kind != current_kind) return true;
  const std::int64_t operation = ++operations;
  if (operation != plan.operation && !(plan.stays && operation > plan.operation)) return true;
  if (plan.action == Action::kKill) std::raise(SIGKILL);
  errno = plan.action == Action::kEnospc ? ENOSPC : EIO;
  return false;
}

}  // namespace onpa::io
