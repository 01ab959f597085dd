// The progress of a training run on stderr: one line that is redrawn on a terminal, one plain line
// an interval elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace onpa::apps {

struct ProgressState {
  std::int64_t step = 0, total_steps = 0;
  std::int64_t epoch = 0, epochs = 0;  // epoch counts from 1
  double loss = 0, lr = 0;
  double samples_per_second = 0;
  const char* samples = "clips";  // what they are called
  double wait_fraction = 0;       // of the time, spent waiting for data
  double memory_bytes = 0;
  double eta_seconds = 0;
};

/// "step 120/500 | epoch 2/10 | loss 0.0123 | lr 1.0e-05 | 85 clips/s | data 3% | 1.2 GB | ETA
/// 0:42", shortened from the end to `columns` characters (0: not at all).
std::string progress_line(const ProgressState& state, std::size_t columns);

class Progress {
 public:
  /// Decides once whether stderr is a terminal (TERM=dumb counts as none).
  explicit Progress(bool quiet);
  ~Progress();
  /// Whether update() would redraw now; a caller may save itself the work.
  bool wants_update() const;
  /// `interval_end` is true when a plain line is due.
  void update(const ProgressState& state, bool interval_end);
  /// Clears the redrawn line, so that a log line can follow.
  void clear();

 private:
  bool quiet_, terminal_, colour_, drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace onpa::apps
