#include "apps/training/profile.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "kernels/error.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

// A trace of more steps takes minutes to open.
constexpr std::int64_t kMostSteps = 1000;

// A whole number that takes up all of `text`; nothing if it is none.
std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

}  // namespace

ProfileWindow parse_profile(const std::string& text) {
  constexpr std::string_view kKey = "steps=";
  const auto refuse = [&](const auto&... why) {
    fail(ExitCode::kUsage, "--profile ", text, ": ", why...);
  };
  const std::size_t colon = text.find(':');
  if (!text.starts_with(kKey) || colon == std::string::npos) {
    refuse("want steps=A:B; steps=10:15 records steps 10 to 14");
  }
  const auto begin = whole_number(std::string_view(text).substr(0, colon).substr(kKey.size()));
  const auto end = whole_number(std::string_view(text).substr(colon + 1));
  if (!begin || !end || *begin < 0 || *end < 0) {
    refuse("A and B of steps=A:B must be whole numbers from 0");
  }
  if (*begin >= *end) {
    refuse("no step from ", *begin, " up to, but not including, ", *end, "; steps=", *begin, ":",
           *begin + 1, " records one");
  }
  if (*end - *begin > kMostSteps) {
    refuse(*end - *begin, " steps, at most ", kMostSteps, ": steps=", *begin, ":",
           *begin + kMostSteps);
  }
  return {.begin = *begin, .end = *end};
}

Profiler::Profiler(ProfileWindow window, DeviceKind device, DType dtype) : window_(window) {
  profile_.device = device;
  profile_.dtype = dtype;
  if (device == DeviceKind::kCuda) clock_.emplace();
}

Profiler::~Profiler() {
  if (span_) set_scope_listener(nullptr);
}

std::int64_t Profiler::steps_to_edge(std::int64_t step) const {
  if (step < window_.begin) return window_.begin - step;
  if (step < window_.end) return window_.end - step;
  return std::numeric_limits<std::int64_t>::max();
}

void Profiler::begin_steps(std::int64_t step) {
  if (step < window_.begin || step >= window_.end) return;
  if (clock_) clock_->start();
  range_.emplace("profiled_step");
  if (profile_.spans.empty()) zero_ = std::chrono::steady_clock::now();
  first_event_ = profile_.events.size();
  marks_.clear();
  span_ = ProfileSpan{.step = step, .begin = now()};
  set_scope_listener(this);
}

bool Profiler::end_steps(std::int64_t count) {
  if (!span_) return false;
  set_scope_listener(nullptr);
  if (clock_) place_on_gpu();
  range_.reset();
  span_->end = now();
  span_->count = count;
  if (count > 0) {
    profile_.spans.push_back(*span_);
  } else {
    profile_.events.resize(first_event_);
  }
  const bool last = span_->step + count >= window_.end;
  span_.reset();
  open_.clear();
  return last;
}

double Profiler::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - zero_).count();
}

// Waits for the GPU. Its clock began with the span.
void Profiler::place_on_gpu() {
  const std::vector<double> seconds = clock_->seconds();
  for (const Marks& marks : marks_) {
    ProfileEvent& event = profile_.events[marks.event];
    event.begin = span_->begin + seconds[marks.begin];
    event.end = span_->begin + seconds[marks.end];
  }
}

void Profiler::begin(ScopeKind kind, const char* name, const OpWork& work) {
  if (std::this_thread::get_id() != thread_) return;
  open_.push_back(profile_.events.size());
  profile_.events.push_back({.name = name, .kind = kind, .work = work, .begin = now()});
  if (clock_ && kind == ScopeKind::kOp) {
    const std::size_t mark = clock_->mark();
    marks_.push_back({.event = open_.back(), .begin = mark, .end = mark});
  }
}

void Profiler::end() {
  if (std::this_thread::get_id() != thread_ || open_.empty()) return;
  ProfileEvent& event = profile_.events[open_.back()];
  open_.pop_back();
  // Ops do not nest, so the newest marks are this one's.
  if (clock_ && event.kind == ScopeKind::kOp) marks_.back().end = clock_->mark();
  event.end = now();
}

}  // namespace onpa::apps
