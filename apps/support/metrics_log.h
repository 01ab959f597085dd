// metrics.jsonl: one JSON object a line, the record that reports are made from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tensor/io/append_file.h"

namespace onpa::apps {

using Metrics = std::vector<std::pair<std::string, double>>;

class MetricsLog {
 public:
  /// Appends to `file`. Lines whose "step" is above `resumed_step`, and a last line without a
  /// newline, are dropped first: the resumed run writes them anew. So is an evaluation at that
  /// step ("test_rmse", "validation_rmse") unless `keep_evaluation`. `unwritten` are lines that the
  /// run before could not write. Throws Error (kCannotCreate, kIo).
  MetricsLog(std::filesystem::path file, std::int64_t resumed_step, bool keep_evaluation,
             const std::string& unwritten = "");

  /// Appends {"step": step, "wall": seconds since 1970, ...}; a value that is not finite becomes
  /// null. What cannot be written waits: see file().
  void append(std::int64_t step, const Metrics& metrics);
  /// The lines that wait, to be kept in a checkpoint.
  std::string unwritten() const;
  io::AppendFile& file() { return file_; }

 private:
  io::AppendFile file_;
};

/// The errors in the evaluation at `step` of a metrics.jsonl, in the order of the line (those of
/// averaged weights last); empty if there is none.
Metrics last_evaluation(const std::filesystem::path& file, std::int64_t step);

}  // namespace onpa::apps
