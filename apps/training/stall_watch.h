// A watch over one rank: a run that gets nowhere ends, and says where it was.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "apps/training/rank_notes.h"
#include "dist/comm.h"

namespace onpa::apps {

/// A thread that ends the job with kStalled when this rank has made no progress for some time. It
/// also reads the rank's notes. Time in which the process was stopped does not count.
///
/// Ranks wait for each other, so that one that is stuck stops all. A rank that is behind the others
/// (it has started fewer collectives) speaks first. One that only waits holds back, so that the one
/// that it waits for can say what it does; if that is silent, it says who has not come.
class StallWatch {
 public:
  StallWatch(dist::Comm& comm, RankNotes& notes) : comm_(comm), notes_(notes) {}
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  /// Starts to watch; once. With `seconds` of 0 only notes are read, and with one rank nothing is.
  void start(double seconds);
  /// This rank has got on, in `step` steps of the run; or begins with what `name` says, a literal.
  void progress(std::int64_t step);
  void phase(const char* name);

  RankPlace place() const;

 private:
  void work();
  void hear_of_losses();
  void stalled();
  bool wait_for_change(double seconds, const std::function<bool()>& enough);
  bool tick(double seconds);
  [[noreturn]] void end(const std::string& message);

  dist::Comm& comm_;
  RankNotes& notes_;
  double seconds_ = 0;
  std::atomic<std::uint64_t> changes_{0};
  std::atomic<std::int64_t> step_{0};
  std::atomic<const char*> phase_{"start"};
  bool told_of_end_ = false;
  std::size_t told_failures_ = 0;

  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

/// What a rank that was stuck for `seconds` says of itself: "stalled: no progress for 5 s at step
/// 12, in forward; last collective: ...".
std::string stall_message(const RankPlace& mine, double seconds);
/// What rank `rank` of `size`, which only waits, says of those that have not come; `places` are the
/// answers of the others.
std::string waiting_message(const RankPlace& mine, int rank, int size,
                            const std::map<int, RankPlace>& places, double seconds);

}  // namespace onpa::apps
