#include "apps/inference/reflected_windows.h"

#include "kernels/error.h"

namespace onpa::apps {

ReflectedWindows::ReflectedWindows(std::int64_t window, std::int64_t hop)
    : window_(window), hop_(hop), pad_(window / 2) {
  ONPA_CHECK(window >= 1 && hop >= 1, "windows of ", window, " samples every ", hop);
}

void ReflectedWindows::push(std::span<const float> wave) {
  const bool had_start = samples_ > pad_;
  held_.insert(held_.end(), wave.begin(), wave.end());
  samples_ += std::ssize(wave);
  if (samples_ <= pad_) return;
  if (!had_start) {
    std::vector<float> before(held_.begin() + 1, held_.begin() + 1 + pad_);
    std::ranges::reverse(before);
    held_.insert(held_.begin(), before.begin(), before.end());
  }
  drop_seen();  // what lies between two windows
}

void ReflectedWindows::finish() {
  ONPA_CHECK(samples_ > pad_, "windows: ", samples_, " samples cannot be reflected for ", pad_);
  const std::size_t end = held_.size();
  for (std::int64_t i = 0; i < pad_; ++i) {
    held_.push_back(held_[end - 2 - static_cast<std::size_t>(i)]);
  }
  finished_ = true;
}

bool ReflectedWindows::next(std::span<float> to) {
  if (samples_ <= pad_ || start_ + window_ > first_ + std::ssize(held_)) return false;
  std::copy_n(held_.begin() + (start_ - first_), window_, to.begin());
  start_ += hop_;
  drop_seen();
  return true;
}

// The end's reflection reads the last pad_ + 1 samples. Dropping moves what stays, so it waits
// until there is more to drop.
void ReflectedWindows::drop_seen() {
  const std::int64_t kept = finished_ ? 0 : pad_ + 1;
  const std::int64_t drop = std::min(start_ - first_, std::ssize(held_) - kept);
  if (drop <= 0 || drop < std::ssize(held_) / 2) return;
  held_.erase(held_.begin(), held_.begin() + drop);
  first_ += drop;
}

}  // namespace onpa::apps
