// Tracks that a loader could not use: how many are too many, and what ranks tell each other of
// them.
#pragma once

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "data/loader.h"
#include "data/shard.h"

namespace onpa::data {

/// A bad track, and the position in an order of items whose item met it.
struct MetBad {
  std::int64_t position = 0;
  BadTrack track;
};

/// Those of all ranks, by position. To be called by all ranks.
std::vector<MetBad> gather_bad(const Shard& shard, const std::vector<MetBad>& met);

/// Bad tracks in the order in which they were met, each once.
class BadList {
 public:
  /// More than `max_fraction` of `rows` tracks are too many.
  BadList(std::int64_t rows, double max_fraction) : rows_(rows), max_fraction_(max_fraction) {}

  bool contains(std::int64_t row) const { return known_.contains(row); }
  const std::vector<BadTrack>& tracks() const { return tracks_; }
  /// Adds those that are not known, then checks.
  void note(std::vector<BadTrack>&& met);
  /// Throws Error (kBadData) with the counts and the first reasons if there are too many.
  void check() const;

 private:
  std::int64_t rows_;
  double max_fraction_;
  std::vector<BadTrack> tracks_;
  std::unordered_set<std::int64_t> known_;
};

}  // namespace onpa::data
