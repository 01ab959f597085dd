#include "apps/training/stall_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>

#include "apps/support/log.h"
#include "apps/support/stop_signal.h"
#include "kernels/cpu/job_count.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr double kLongestTick = 0.2, kTickOfOneRank = 1;
// In which a rank whose watch is alive answers, though all share a core.
constexpr double kAnswerSeconds = 1;
constexpr double kShortestGrace = 2;
constexpr double kBetweenRanks = 0.2;
// Waiting for so long after SIGTERM is to wait for a rank that is gone: mpirun ends the others.
constexpr double kLostSeconds = 0.3;

std::string at_step(const RankPlace& place) {
  return fmt::format("at step {}, in {}", place.step, place.phase);
}

// Collectives of the rank, or rank of the others, that has come furthest.
std::uint64_t most_calls(const RankPlace& mine, const std::map<int, RankPlace>& places) {
  std::uint64_t most = mine.calls;
  for (const auto& [rank, place] : places) most = std::max(most, place.calls);
  return most;
}

// This rank's turn to speak when all wait alike: 0 if it is to be the first.
int turn(const RankPlace& mine, int rank, int size, const std::map<int, RankPlace>& places) {
  const std::uint64_t most = most_calls(mine, places);
  if (mine.calls < most) return 0;
  const bool all_alike = static_cast<int>(places.size()) == size - 1 &&
                         std::all_of(places.begin(), places.end(),
                                     [&](const auto& other) { return other.second.calls == most; });
  return all_alike && rank == 0 ? 0 : 1 + rank;
}

// `own` are the phases and steps of this rank. A kernel on the CPU is progress too: a pass over a
// large batch is no stall.
std::uint64_t changes_of(const std::atomic<std::uint64_t>& own) {
  return own.load(std::memory_order_relaxed) + kernels::job_count();
}

}  // namespace

std::string stall_message(const RankPlace& mine, double seconds) {
  return fmt::format("stalled: no progress for {:.3g} s {}; last collective: {}", seconds,
                     at_step(mine), mine.last_call.empty() ? "none" : mine.last_call);
}

std::string waiting_message(const RankPlace& mine, int rank, int size,
                            const std::map<int, RankPlace>& places, double seconds) {
  std::string missing;
  for (int other = 0; other < size; ++other) {
    if (other == rank) continue;
    const auto found = places.find(other);
    if (found != places.end() && found->second.calls >= mine.calls) continue;
    missing += fmt::format("; rank {} has not come: {}", other,
                           found == places.end() ? "it does not answer" : at_step(found->second));
  }
  return stall_message(mine, seconds) + missing;
}

StallWatch::~StallWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StallWatch::start(double seconds) {
  seconds_ = seconds;
  if ((seconds <= 0 && comm_.size() == 1) || thread_.joinable()) return;
  thread_ = std::thread([this] { work(); });
}

void StallWatch::progress(std::int64_t step) {
  step_.store(step, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

void StallWatch::phase(const char* name) {
  phase_.store(name, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_relaxed);
}

RankPlace StallWatch::place() const {
  const dist::Comm::Calls calls = comm_.calls();
  return {calls.count, calls.last, step_.load(), phase_.load()};
}

// False if the watch is to end.
bool StallWatch::tick(double seconds) {
  std::unique_lock lock(mutex_);
  if (stop_.wait_for(lock, Seconds(seconds), [this] { return stopping_; })) return false;
  lock.unlock();
  if (comm_.size() > 1) notes_.read(place());
  return true;
}

void StallWatch::work() {
  const double longest = comm_.size() > 1 ? kLongestTick : kTickOfOneRank;
  const double step = seconds_ > 0 ? std::min(longest, seconds_ / 10) : longest;
  std::uint64_t seen = changes_of(changes_);
  double idle = 0;
  for (Clock::time_point last = Clock::now(); tick(step);) {
    const Clock::time_point now = Clock::now();
    // A process that was stopped, or got no core, could make no progress either.
    const double passed = std::min(Seconds(now - last).count(), 2 * step);
    last = now;
    const std::uint64_t changes = changes_of(changes_);
    idle = changes == seen ? idle + passed : 0;
    seen = changes;
    if (comm_.size() > 1 && idle > kLostSeconds) hear_of_losses();
    if (seconds_ > 0 && idle > seconds_) stalled();
  }
}

// For this rank's log: why it is about to be ended in the middle of something.
void StallWatch::hear_of_losses() {
  const auto failures = notes_.failures();
  if (failures.size() > told_failures_) {
    told_failures_ = failures.size();
    for (const auto& [rank, failure] : failures) {
      if (failure.own) spdlog::debug("peer lost: rank {} has failed: {}", rank, failure.message);
    }
  }
  if (told_of_end_ || stop_requested() != SIGTERM) return;
  told_of_end_ = true;
  spdlog::debug("peer lost: asked to end (SIGTERM) {}, waiting in {}: a rank or mpirun is gone",
                at_step(place()), place().last_call);
}

// Until `enough`, progress (then true) or the time is over.
bool StallWatch::wait_for_change(double seconds, const std::function<bool()>& enough) {
  const std::uint64_t before = changes_of(changes_);
  const Clock::time_point until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
  while (Clock::now() < until && !(enough && enough())) {
    if (!tick(0.02) || changes_of(changes_) != before) return true;
  }
  return false;
}

void StallWatch::stalled() {
  const int rank = comm_.rank(), size = comm_.size();
  if (size > 1) {
    notes_.ask();
    const auto all = [&] { return static_cast<int>(notes_.places().size()) == size - 1; };
    if (wait_for_change(kAnswerSeconds, all)) return;
    if (const int before = turn(place(), rank, size, notes_.places()); before > 0) {
      const double grace = std::max(kShortestGrace, seconds_ / 10) + kBetweenRanks * before;
      if (wait_for_change(grace, {})) return;
    }
  }
  end(waiting_message(place(), rank, size, notes_.places(), seconds_));
}

// The thread that trains may be stuck anywhere: nothing is waited for.
void StallWatch::end(const std::string& message) {
  const std::string who = comm_.size() > 1 ? fmt::format("rank {}: ", comm_.rank()) : "";
  spdlog::debug("{}", message);
  write_stderr("onpa: " + who + message + "\n");  // which a full pipe does not hold up
  const int code = static_cast<int>(ExitCode::kStalled);
  if (comm_.size() > 1) {
    try {
      comm_.abort(code);
    } catch (const Error&) {  // of ranks that are threads
    }
  }
  std::_Exit(code);
}

}  // namespace onpa::apps
