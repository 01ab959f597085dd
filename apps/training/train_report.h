// How a run stands, in one small JSON file, for a program that started it (train --report-json).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>

namespace onpa::apps {

class TrainReport {
 public:
  /// Written to `file`; an empty one writes nothing.
  explicit TrainReport(std::filesystem::path file) : file_(std::move(file)) {}

  /// NaN: not known, null in the file.
  struct Errors {
    double rmse = std::numeric_limits<double>::quiet_NaN();
    double mae = std::numeric_limits<double>::quiet_NaN();
    double r2 = std::numeric_limits<double>::quiet_NaN();
  };
  struct Progress {
    std::int64_t step = 0, epoch = 0;  // taken, finished
    std::string evaluated;             // "test" or "validation"; empty: not known yet
    Errors errors;         // of the newest evaluation (averaged weights if they are kept)
    double best_rmse = 0;  // lowest so far; 0: none
    std::int64_t best_step = 0;
    double train_seconds = 0;
    std::int64_t parameters = 0;
  };

  /// For the next time that the file is written.
  void note(const Progress& progress) { progress_ = progress; }
  /// Replaces the file, with status "running". Throws Error (kCannotCreate, kIo).
  void update() const;
  /// The same with an exit code and the status that it stands for.
  void finish(int code) const;
  /// The code of `body`. What it throws is reported, and thrown on; a report that cannot be written
  /// then is a warning.
  int noting_failure(const std::function<int()>& body);
  /// The same, and the code is reported. Throws Error as update() if the code is 0.
  int around(const std::function<int()>& body);
  bool wanted() const { return !file_.empty(); }

 private:
  void fail(int code) const;
  void write(const std::string& status, int code) const;

  std::filesystem::path file_;
  Progress progress_;
  std::string error_;
};

}  // namespace onpa::apps
