// The filter of a resampler by a ratio of whole numbers. Private to audio/.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace onpa::audio {

/// A Kaiser-windowed sinc at every phase of the ratio up / down, packed for kernels that make
/// kGroup successive outputs from the input samples that any of them sees.
struct PolyphaseFilter {
  static constexpr std::int64_t kGroup = 4;

  std::int64_t up, down;
  std::int64_t half;    // output m begins to see the input half - 1 samples before m * down / up
  std::int64_t period;  // outputs after which the taps repeat, a multiple of up
  std::int64_t stride;  // input samples from one period to the next
  std::int64_t groups;  // of outputs in a period; the last may be incomplete
  std::int64_t rows;    // input samples that a group sees, a multiple of 4
  std::int64_t window;  // input samples that a period sees, a multiple of 4
  std::vector<float> weight;  // (groups, rows, kGroup), 0 where an output does not see a sample

  /// The first of the samples that group g sees, counted from the first of its period.
  std::int64_t first_row(std::int64_t g) const { return g * kGroup * down / up; }
  /// Outputs of all groups of a period, those of an incomplete one included.
  std::int64_t padded_period() const { return groups * kGroup; }
  std::int64_t weights() const { return padded_period() * rows; }
  std::int64_t bytes() const { return weights() * static_cast<std::int64_t>(sizeof(float)); }
};

/// Bytes of the filter for up / down.
std::int64_t polyphase_bytes(std::int64_t up, std::int64_t down);

/// Filters that were made, for later calls. Safe to use from many threads.
class PolyphaseFilters {
 public:
  /// Odd rates in a hostile corpus must not pile up: at most that many bytes are kept.
  explicit PolyphaseFilters(std::int64_t most_bytes) : most_bytes_(most_bytes) {}
  /// The filter for up / down, in lowest terms and both positive.
  std::shared_ptr<const PolyphaseFilter> get(std::int64_t up, std::int64_t down);
  /// Of the filters that are kept.
  std::int64_t bytes() const { return bytes_; }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::shared_ptr<const PolyphaseFilter>> kept_;
  std::int64_t most_bytes_, bytes_ = 0;
};

/// Most bytes of one filter, and of those that polyphase_filter() keeps.
inline constexpr std::int64_t kMostFilterBytes = std::int64_t{64} << 20;

/// PolyphaseFilters::get() of filters that all share.
std::shared_ptr<const PolyphaseFilter> polyphase_filter(std::int64_t up, std::int64_t down);

}  // namespace onpa::audio
