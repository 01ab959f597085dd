#include "apps/support/metrics_log.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

bool is_evaluation(const nlohmann::json& line) {
  return line.contains("test_rmse") || line.contains("validation_rmse");
}

// Whether a line is a JSON object with a step of at most `last`.
bool kept(const std::string& line, std::int64_t last, bool keep_evaluation) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer())
    return false;
  const auto step = json["step"].get<std::int64_t>();
  return step < last || (step == last && (keep_evaluation || !is_evaluation(json)));
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream whole;
  if (in) whole << in.rdbuf();
  return whole.str();
}

// Makes `file` hold what a run that goes on after step `last` has to find there.
void rewind(const std::filesystem::path& file, std::int64_t last, bool keep_evaluation) {
  const std::string text = text_of(file);
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    if (kept(line, last, keep_evaluation)) out += line + "\n";
    begin = end + 1;
  }
  if (out != text) {
    const io::FaultScope faults(io::FileKind::kMetrics);
    io::write_file_atomic(file, out);
  }
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path file, std::int64_t resumed_step, bool keep_evaluation,
                       const std::string& unwritten)
    : file_((rewind(file, resumed_step, keep_evaluation), file), io::FileKind::kMetrics) {
  // Lines that a checkpoint holds may have reached the file after all.
  std::set<std::string> there;
  std::istringstream old(unwritten.empty() ? "" : text_of(file)), lines(unwritten);
  for (std::string line; std::getline(old, line);) there.insert(line);
  for (std::string line; std::getline(lines, line);) {
    if (!there.contains(line)) file_.append(line + "\n");
  }
}

void MetricsLog::append(std::int64_t step, const Metrics& metrics) {
  const double wall =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string line = fmt::format("{{\"step\":{},\"wall\":{:.3f}", step, wall);
  for (const auto& [name, value] : metrics) {
    line += std::isfinite(value) ? fmt::format(",\"{}\":{}", name, value)
                                 : fmt::format(",\"{}\":null", name);
  }
  file_.append(line + "}\n");
}

Metrics last_evaluation(const std::filesystem::path& file, std::int64_t step) {
  std::istringstream lines(text_of(file));
  Metrics out;
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::ordered_json::parse(text, nullptr, false);
    if (!line.is_object() || line.value("step", std::int64_t{-1}) != step) continue;
    if (!is_evaluation(line)) continue;
    out.clear();
    for (const auto& [name, value] : line.items()) {
      if (value.is_number()) out.emplace_back(name, value.get<double>());
    }
  }
  return out;
}

std::string MetricsLog::unwritten() const {
  std::string text;
  for (const std::string& line : file_.waiting()) text += line;
  return text;
}

}  // namespace onpa::apps
