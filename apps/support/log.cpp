#include "apps/support/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>

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

}  // namespace

void set_up_log(bool quiet) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<LevelPrefix>('*').set_pattern("onpa: %*%v");
  auto logger =
      std::make_shared<spdlog::logger>("onpa", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(quiet ? spdlog::level::warn : spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace onpa::apps
