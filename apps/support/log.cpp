#include "apps/support/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>

#include "apps/support/process.h"

namespace onpa::apps {
namespace {

// "warning: " before a warning, "error: " before an error, nothing before the rest.
class LevelPrefix : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const char* prefix = message.level == spdlog::level::warn  ? "warning: "
                         : message.level >= spdlog::level::err ? "error: "
                                                               : "";
    while (*prefix) out.push_back(*prefix++);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<LevelPrefix>();
  }
};

std::unique_ptr<spdlog::pattern_formatter> formatter_of(const std::string& pattern) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<LevelPrefix>('*').set_pattern(pattern);
  return formatter;
}

class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    write_stderr({text.data(), text.size()});
  }
  void flush_() override {}
};

constexpr int kPatienceMs = 200;
// A pipe that can be written to at all takes this much at once.
constexpr std::size_t kPieceBytes = 4096;

}  // namespace

void write_stderr(std::string_view text) {
  static std::atomic<bool> stuck{false};
  while (!text.empty()) {
    pollfd target{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    const int ready = poll(&target, 1, stuck ? 0 : kPatienceMs);
    if (ready < 0 && errno == EINTR) continue;
    stuck = ready == 0;
    if (ready == 0) return;
    const ssize_t done = write(STDERR_FILENO, text.data(), std::min(text.size(), kPieceBytes));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return;
    text.remove_prefix(static_cast<std::size_t>(done));
  }
}

void set_up_log(bool quiet) {
  auto formatter = formatter_of("onpa: %*%v");
  auto logger = std::make_shared<spdlog::logger>("onpa", std::make_shared<StderrSink>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(quiet ? spdlog::level::warn : spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void set_up_rank_console(int rank) {
  spdlog::default_logger()->set_formatter(formatter_of(fmt::format("onpa: rank {}: %*%v", rank)));
  spdlog::default_logger()->set_level(spdlog::level::err);
}

void add_rank_log(const std::filesystem::path& folder, int rank) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(folder, unknown)) return;
  try {
    const std::filesystem::path path = folder / fmt::format("rank_{:03}.log", rank);
    auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    report_crashes_in(path);
    file->set_formatter(formatter_of("%Y-%m-%dT%H:%M:%S.%e %*%v"));
    const auto logger = spdlog::default_logger();
    // The level of the logger becomes that of its sinks so far.
    for (const auto& sink : logger->sinks()) sink->set_level(logger->level());
    logger->sinks().push_back(std::move(file));
    logger->set_level(spdlog::level::debug);
    logger->flush_on(spdlog::level::debug);
    logger->set_error_handler([](const std::string&) {});  // a full disk is told of elsewhere
  } catch (const spdlog::spdlog_ex& error) {
    spdlog::warn("no log of rank {}: {}", rank, error.what());
  }
}

}  // namespace onpa::apps
