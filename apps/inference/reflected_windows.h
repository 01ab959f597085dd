// Windows over a clip whose samples come block by block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace onpa::apps {

/// Windows of a wave that is reflected about its first and last sample for half a window, as its
/// samples come: window i begins at sample i * hop - window / 2 of the wave.
class ReflectedWindows {
 public:
  /// Both at least 1. A wave must have more than window / 2 samples.
  ReflectedWindows(std::int64_t window, std::int64_t hop);

  void push(std::span<const float> wave);
  /// After the last sample. Throws Error (kInternal) if the wave was too short.
  void finish();
  /// Copies the next window that is whole to `to`; false if there is none yet, or any more. There
  /// are 1 + samples / hop in all if `window` is even.
  bool next(std::span<float> to);
  /// Samples at hand.
  std::int64_t held() const { return std::ssize(held_); }

 private:
  void drop_seen();

  std::int64_t window_, hop_, pad_;
  std::vector<float> held_;             // of the reflected wave, from first_ on
  std::int64_t first_ = 0, start_ = 0;  // in the reflected wave: held_[0]; the next window
  std::int64_t samples_ = 0;            // of the wave
  bool finished_ = false;
};

/// Windows that wait to go through the model together, in memory for those that there are.
class WindowBatch {
 public:
  WindowBatch(std::int64_t capacity, std::int64_t window)
      : capacity_(capacity), rows_(Tensor::empty({std::min(capacity, kFirstRows), window})) {}

  /// Takes the next window, if there is one and the batch is not full.
  bool take(ReflectedWindows& windows) {
    if (is_full()) return false;
    if (filled_ == rows_.size(0)) grow();
    if (!windows.next(rows_.slice(filled_, filled_ + 1).span<float>())) return false;
    ++filled_;
    return true;
  }
  bool is_full() const { return filled_ == capacity_; }
  std::int64_t filled() const { return filled_; }
  Tensor rows() const { return rows_.slice(0, filled_); }
  void clear() { filled_ = 0; }

 private:
  static constexpr std::int64_t kFirstRows = 8;

  void grow() {
    const Tensor more = Tensor::empty({std::min(capacity_, 2 * filled_), rows_.size(1)});
    more.slice(0, filled_).copy_from(rows_);
    rows_ = more;
  }

  std::int64_t capacity_, filled_ = 0;
  Tensor rows_;
};

}  // namespace onpa::apps
