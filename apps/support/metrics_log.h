// metrics.jsonl: one JSON object a line, the record that reports are made from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace onpa::apps {

using Metrics = std::vector<std::pair<std::string, double>>;

class MetricsLog {
 public:
  /// Appends to `file`. Lines whose "step" is above `resumed_step`, and a last line without a
  /// newline, are dropped first: the resumed run writes them anew. So is an evaluation at that
  /// step ("test_rmse") unless `keep_evaluation`. Throws Error (kCannotCreate, kIo).
  MetricsLog(std::filesystem::path file, std::int64_t resumed_step, bool keep_evaluation);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  /// Appends {"step": step, "wall": seconds since 1970, ...} in one write; a value that is not
  /// finite becomes null. False if the line could not be written.
  bool append(std::int64_t step, const Metrics& metrics);

 private:
  int descriptor_ = -1;
};

}  // namespace onpa::apps
