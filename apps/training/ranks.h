// The ranks that train one model together, as a training run sees them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apps/training/rank_notes.h"
#include "apps/training/stall_watch.h"
#include "data/shard.h"
#include "dist/comm.h"
#include "kernels/error.h"

namespace onpa::apps {

/// What went wrong on another rank, as the ranks that it was told to throw it.
class ElsewhereError : public Error {
 public:
  using Error::Error;
};

/// Everything here but phase() and progress() is a collective: all ranks call it at the same point,
/// on the thread that owns the Comm. With one rank it costs nothing and starts nothing. Throws what
/// the Comm throws.
class Ranks {
 public:
  /// `comm` outlives it. `processes`: every rank is a process with a log of its own.
  explicit Ranks(dist::Comm& comm, bool processes = false);

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  /// Of the rank that owns the run folder and speaks for all.
  bool first() const { return rank() == 0; }
  bool several() const { return size() > 1; }
  bool processes() const { return processes_; }
  dist::Comm& comm() const { return comm_; }
  RankNotes& notes() { return notes_; }

  /// What a loader needs to take this rank's part; it must not outlive the Comm.
  data::Shard shard() const;

  /// Each value becomes the sum, or the largest, of all ranks' ones.
  void all_sum(std::span<double> values) const;
  void all_max(std::span<double> values) const;
  /// Whether it is so on any rank.
  bool any(bool mine) const;
  /// The values of rank 0, then those of rank 1, ...; ranks may give different counts.
  std::vector<double> all_gather(std::span<const double> values) const;
  /// The same number of each rank, in their order.
  std::vector<std::uint64_t> all_gather(std::uint64_t value) const;
  /// The text of each rank, on all of them.
  std::vector<std::string> all_gather_text(const std::string& text) const;
  /// Those of rank `root`, on all ranks.
  std::string broadcast_text(const std::string& text, int root = 0) const;
  double broadcast(double value) const;

  /// Does on rank 0 what only it has to do. If that throws, all throw: the others ElsewhereError
  /// with the same code.
  void on_first(const std::function<void()>& work) const;

  /// Ends the job when this rank gets nowhere for so long; 0: never. progress() tells that it has
  /// got on, phase() what it does from now on, which is progress too.
  void start_watch(double seconds);
  void progress(std::int64_t step);
  void phase(const char* name);
  RankPlace place() const { return watch_.place(); }

 private:
  dist::Comm& comm_;
  bool processes_;
  RankNotes notes_;
  StallWatch watch_;
};

}  // namespace onpa::apps
