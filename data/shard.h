// One rank's part of what several ranks load together.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace onpa::data {

/// Items [begin, end).
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

/// The default is one rank, which has all. The functions are called by all ranks at the same
/// points, by the thread that uses the loader; with one rank they are never called and may be
/// empty. They throw what the job's communication throws.
struct Shard {
  int rank = 0, size = 1;
  /// Each value becomes the largest of all ranks' ones.
  std::function<void(std::span<double>)> all_max;
  /// The values of rank 0, then those of rank 1, ...; ranks may give different counts.
  std::function<std::vector<double>(std::span<const double>)> all_gather;

  /// This rank's part of `count` items in a row: sizes differ by one at most.
  Range part(std::int64_t count) const { return {count * rank / size, count * (rank + 1) / size}; }
};

}  // namespace onpa::data
