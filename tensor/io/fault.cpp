#include "tensor/io/fault.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "kernels/error.h"

namespace onpa::io {
namespace {

// In the order of FileKind.
constexpr std::array<std::string_view, 10> kKinds = {
    "checkpoint", "run", "metrics", "events", "data", "tables", "npy", "cache", "corpus", "demo"};
static_assert(kKinds.size() == static_cast<std::size_t>(FileKind::kDemo) + 1);
// In the order of FaultSite. Those from kFirstValueSite on have values to spoil.
constexpr std::array<std::string_view, 7> kSites = {"step", "collective", "loader", "decoder",
                                                    "loss", "gradient",   "weights"};
static_assert(kSites.size() == static_cast<std::size_t>(FaultSite::kWeights) + 1);
constexpr int kFirstValueSite = static_cast<int>(FaultSite::kLoss);
constexpr int kNone = -1;

enum class Action {
  kNone,
  kKill,
  kEnospc,
  kEio,
  kSegv,
  kTerminate,
  kExit,
  kHang,
  kNan,
  kNudge,
  kAllocate
};

// Files take those of the first three, sites `kill` and the next four, values two more, the decoder
// the last.
constexpr std::array<std::string_view, 10> kActions = {
    "kill", "enospc", "eio", "segv", "terminate", "exit", "hang", "nan", "nudge", "allocate"};
constexpr std::size_t kBlockBytes = 10'000'000'000;

struct Plan {
  int kind = kNone, site = kNone;  // one of them is set, or there is nothing to do
  std::int64_t operation = 0;
  bool stays = false;
  Action action = Action::kNone;
};

template <std::size_t N>
int index_of(const std::array<std::string_view, N>& names, std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<int>(i);
  }
  return kNone;
}

template <std::size_t N>
std::string join(const std::array<std::string_view, N>& names) {
  std::string out;
  for (const std::string_view name : names) out += (out.empty() ? "" : "|") + std::string(name);
  return out;
}

bool goes_with(const Plan& plan) {
  if (plan.kind != kNone) return plan.action != Action::kNone && plan.action <= Action::kEio;
  if (plan.action == Action::kKill) return true;
  if (plan.action == Action::kAllocate) return plan.site == static_cast<int>(FaultSite::kDecoder);
  const Action last = plan.site >= kFirstValueSite ? Action::kNudge : Action::kHang;
  return plan.action >= Action::kSegv && plan.action <= last;
}

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
  const std::string_view place = take_part(text);
  plan.kind = index_of(kKinds, place);
  plan.site = index_of(kSites, place);
  std::string_view number = take_part(text);
  plan.stays = number.ends_with('+');
  if (plan.stays) number.remove_suffix(1);
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), plan.operation);
  const bool number_ok = error == std::errc() && end == number.data() + number.size();
  plan.action = static_cast<Action>(index_of(kActions, text) + 1);
  const bool somewhere = plan.kind != kNone || plan.site != kNone;
  if (somewhere && number_ok && plan.operation >= 1 && goes_with(plan)) return plan;
  fail(ExitCode::kConfig, "ONPA_FAULT is \"", value, "\", want ", join(kKinds),
       ":N:kill|enospc|eio or ", join(kSites),
       ":N:kill|segv|terminate|exit|hang (and nan|nudge for the last three, allocate for decoder); "
       "N+ for the N-th and all later ones");
}

thread_local int current_kind = kNone;
thread_local Plan plan;
std::atomic<std::int64_t> operations{0}, passes{0};

bool is_due(const Plan& p, std::int64_t count) {
  return count == p.operation || (p.stays && count > p.operation);
}

[[noreturn]] void end_process(Action action) {
  switch (action) {
    case Action::kKill:
      std::raise(SIGKILL);
      break;
    case Action::kSegv: {
      // Not raise(): a handler must cope with a real one.
      volatile int* volatile nowhere = nullptr;
      *nowhere = 0;
      break;
    }
    case Action::kTerminate:
      std::terminate();
    case Action::kExit:
      std::exit(0);
    default:
      break;
  }
  for (;;) ::pause();
}

const Plan& plan_at_start() {
  static const Plan at_start = parse(std::getenv("ONPA_FAULT"));
  return at_start;
}

Spoil disturb(const Plan& p) {
  if (!is_due(p, ++passes)) return Spoil::kNone;
  if (p.action == Action::kNan) return Spoil::kNan;
  if (p.action == Action::kNudge) return Spoil::kNudge;
  end_process(p.action);
}

}  // namespace

Spoil fault_site(FaultSite site) {
  const Plan& at_start = plan_at_start();
  if (at_start.site != static_cast<int>(site)) [[likely]] {
    return Spoil::kNone;
  }
  return disturb(at_start);
}

int order_fault(FaultSite site) {
  const Plan& at_start = plan_at_start();
  if (at_start.site != static_cast<int>(site)) [[likely]] {
    return 0;
  }
  return is_due(at_start, ++passes) ? static_cast<int>(at_start.action) : 0;
}

void carry_out(int order) {
  const auto action = static_cast<Action>(order);
  if (action == Action::kNone) [[likely]] {
    return;
  }
  if (action != Action::kAllocate) end_process(action);
  void* volatile block = ::operator new(kBlockBytes);
  ::operator delete(block);
}

FaultScope::FaultScope(FileKind kind) : outer_(current_kind) {
  plan = parse(std::getenv("ONPA_FAULT"));
  current_kind = static_cast<int>(kind);
}
FaultScope::~FaultScope() {
  current_kind = outer_;
}

bool fault_point() {
  if (current_kind == kNone || plan.kind != current_kind) return true;
  if (!is_due(plan, ++operations)) return true;
  if (plan.action == Action::kKill) std::raise(SIGKILL);
  errno = plan.action == Action::kEnospc ? ENOSPC : EIO;
  return false;
}

}  // namespace onpa::io
