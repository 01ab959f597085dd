#include "apps/support/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "apps/support/log.h"

namespace onpa::apps {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr double kLongestEtaSeconds = 1e7;

std::string eta_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > kLongestEtaSeconds) return "?";
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole >= 3600) {
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  }
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

// COLUMNS if it is set, else the terminal's width.
std::size_t terminal_columns() {
  if (const char* text = std::getenv("COLUMNS")) {
    const long columns = std::strtol(text, nullptr, 10);
    if (columns > 0) return static_cast<std::size_t>(columns);
  }
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

std::string progress_line(const ProgressState& s, std::size_t columns) {
  const std::string parts[] = {
      fmt::format("step {}/{}", s.step, s.total_steps),
      fmt::format("epoch {}/{}", s.epoch, s.epochs),
      fmt::format("loss {:.5g}", s.loss),
      fmt::format("lr {:.2g}", s.lr),
      fmt::format("{:.3g} {}/s", s.samples_per_second, s.samples),
      fmt::format("data {:.0f}%", 100 * s.wait_fraction),
      fmt::format("{:.2f} GB", s.memory_bytes / 1e9),
      "ETA " + eta_text(s.eta_seconds),
  };
  std::string line;
  for (const std::string& part : parts) {
    const std::size_t width = line.size() + (line.empty() ? 0 : 3) + part.size();
    if (columns > 0 && width > columns) break;
    line += (line.empty() ? "" : " | ") + part;
  }
  return line;
}

Progress::Progress(bool quiet) : quiet_(quiet) {
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  terminal_ = isatty(STDERR_FILENO) == 1 && term != nullptr && std::strcmp(term, "dumb") != 0;
  colour_ = terminal_ && (no_colour == nullptr || *no_colour == '\0');
}

Progress::~Progress() {
  clear();
}

bool Progress::wants_update() const {
  return !quiet_ && terminal_ &&
         (!drawn_ || std::chrono::steady_clock::now() - last_ >= kRedrawInterval);
}

void Progress::update(const ProgressState& state, bool interval_end) {
  if (quiet_) return;
  if (!terminal_) {
    if (interval_end) write_stderr(progress_line(state, 0) + "\n");
    return;
  }
  if (!wants_update()) return;
  last_ = std::chrono::steady_clock::now();
  drawn_ = true;
  const std::string line = progress_line(state, std::max<std::size_t>(terminal_columns(), 2) - 1);
  write_stderr("\r\x1b[K" + (colour_ ? "\x1b[36m" + line + "\x1b[0m" : line));
}

void Progress::clear() {
  if (drawn_) write_stderr("\r\x1b[K");
  drawn_ = false;
}

}  // namespace onpa::apps
