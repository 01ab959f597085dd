#include "apps/training/train_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/support/failure.h"
#include "apps/support/log.h"
#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

constexpr const char* kRunning = "running";

std::string status_of(int code) {
  switch (static_cast<ExitCode>(code)) {
    case ExitCode::kOk:
      return "done";
    case ExitCode::kStopped:
      return "stopped";
    case ExitCode::kDiverged:
      return "diverged";
    case ExitCode::kOutOfMemory:
      return "out of memory";
    default:
      return "failed";
  }
}

nlohmann::ordered_json known(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

}  // namespace

void TrainReport::update() const {
  write(kRunning, 0);
}

void TrainReport::finish(int code) const {
  write(status_of(code), code);
}

void TrainReport::fail(int code) const {
  try {
    finish(code);
  } catch (const Error& unwritten) {
    if (error_ != unwritten.what()) spdlog::warn("{}", unwritten.what());
  }
}

int TrainReport::noting_failure(const std::function<int()>& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    const Failure failure = failure_of(error);
    error_ = failure.message;
    fail(failure.code);
    throw;
  }
}

int TrainReport::around(const std::function<int()>& body) {
  const int code = noting_failure(body);
  code == 0 ? finish(code) : fail(code);
  return code;
}

void TrainReport::write(const std::string& status, int code) const {
  if (!wanted()) return;
  const Progress& p = progress_;
  nlohmann::ordered_json json;
  json["version"] = 1;
  json["status"] = status;
  json["exit_code"] = status == kRunning ? nlohmann::ordered_json() : nlohmann::ordered_json(code);
  json["error"] = error_.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(error_);
  json["step"] = p.step;
  json["epoch"] = p.epoch;
  json["evaluated"] =
      p.evaluated.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(p.evaluated);
  json["rmse"] = known(p.errors.rmse);
  json["mae"] = known(p.errors.mae);
  json["r2"] = known(p.errors.r2);
  json["best_rmse"] = p.best_rmse > 0 ? known(p.best_rmse) : nlohmann::ordered_json();
  json["best_step"] =
      p.best_rmse > 0 ? nlohmann::ordered_json(p.best_step) : nlohmann::ordered_json();
  json["train_seconds"] = known(p.train_seconds);
  json["parameters"] = p.parameters;
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  // Whole at any time; only how the run ended has to outlive a power cut.
  io::write_file_atomic(file_, json.dump(2, ' ', false, replace) + "\n", status != kRunning);
}

}  // namespace onpa::apps
