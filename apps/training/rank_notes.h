// What ranks tell each other beside their collectives: where they are, when one asks because it
// waits in vain, and that they have failed.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "dist/comm.h"

namespace onpa::apps {

/// Where a rank is.
struct RankPlace {
  std::uint64_t calls = 0;  // collectives that it has started
  std::string last_call;
  std::int64_t step = 0;
  std::string phase;
};

/// Why a rank ends.
struct RankFailure {
  int code = 0;
  bool own = true;  // false: another rank has told it
  std::string message;
};

/// The notes of one rank. Thread-safe.
class RankNotes {
 public:
  explicit RankNotes(dist::Comm& comm) : comm_(comm) {}

  /// Asks all other ranks where they are; answers of before are forgotten.
  void ask();
  /// Tells all other ranks that this one ends.
  void tell(const RankFailure& failure);
  /// Takes what has come, and answers those who have asked.
  void read(const RankPlace& mine);

  std::map<int, RankPlace> places() const;
  std::map<int, RankFailure> failures() const;

 private:
  void send_all(const std::string& text);

  dist::Comm& comm_;
  mutable std::mutex mutex_;
  std::map<int, RankPlace> places_;
  std::map<int, RankFailure> failures_;
};

}  // namespace onpa::apps
