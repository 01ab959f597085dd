// A run's folder, held by one process at a time.
#pragma once

#include <filesystem>
#include <string>

namespace onpa::apps {

/// Holds RUN/lock while it lives. The lock names host and process; one that a dead process left
/// behind is taken over.
class RunDir {
 public:
  /// Makes the folder if need be and checks that it can be written to. Throws Error
  /// (kCannotCreate, kIo) naming the folder, or the process that holds it.
  explicit RunDir(std::filesystem::path folder);
  ~RunDir();
  RunDir(const RunDir&) = delete;
  RunDir& operator=(const RunDir&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }
  std::filesystem::path metrics_file() const { return folder_ / "metrics.jsonl"; }
  /// RUN/logs, of ranks that are processes; not made by the constructor.
  static std::filesystem::path logs_of(const std::filesystem::path& run) { return run / "logs"; }
  std::filesystem::path logs() const { return logs_of(folder_); }
  /// Replaces RUN/name by `text` in one step. Throws Error (kCannotCreate, kIo).
  void write_text(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path folder_;
  int lock_ = -1;
};

}  // namespace onpa::apps
