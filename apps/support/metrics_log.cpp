#include "apps/support/metrics_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

// Whether a line is a JSON object with a step of at most `last`.
bool kept(const std::string& line, std::int64_t last, bool keep_evaluation) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer())
    return false;
  const auto step = json["step"].get<std::int64_t>();
  return step < last || (step == last && (keep_evaluation || !json.contains("test_rmse")));
}

void drop_lines_after(const std::filesystem::path& file, std::int64_t last, bool keep_evaluation) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return;
  std::ostringstream whole;
  whole << in.rdbuf();
  const std::string text = whole.str();
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    if (kept(line, last, keep_evaluation)) out += line + "\n";
    begin = end + 1;
  }
  if (out != text) {
    io::write_file_atomic(file, [&](io::FileWriter& writer) { writer.write(out); });
  }
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path file, std::int64_t resumed_step,
                       bool keep_evaluation) {
  drop_lines_after(file, resumed_step, keep_evaluation);
  descriptor_ = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    fail(ExitCode::kCannotCreate, file.string(),
         ": cannot open for appending: ", std::strerror(errno));
  }
}

MetricsLog::~MetricsLog() {
  if (descriptor_ >= 0) close(descriptor_);
}

bool MetricsLog::append(std::int64_t step, const Metrics& metrics) {
  const double wall =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string line = fmt::format("{{\"step\":{},\"wall\":{:.3f}", step, wall);
  for (const auto& [name, value] : metrics) {
    line += std::isfinite(value) ? fmt::format(",\"{}\":{}", name, value)
                                 : fmt::format(",\"{}\":null", name);
  }
  line += "}\n";
  return write(descriptor_, line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

}  // namespace onpa::apps
