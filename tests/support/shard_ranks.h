// Ranks that are threads, for tests of what ranks load together. None waits longer than kPatience.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "data/shard.h"
#include "kernels/error.h"

namespace onpa::testing {

constexpr std::chrono::seconds kPatience{60};

// Where ranks meet and show each other values.
class Meeting {
 public:
  explicit Meeting(int size) : brought_(static_cast<std::size_t>(size)) {}

  // What each rank has brought.
  std::vector<std::vector<double>> meet(int rank, std::span<const double> values) {
    std::unique_lock lock(mutex_);
    brought_[static_cast<std::size_t>(rank)].assign(values.begin(), values.end());
    if (++arrived_ == brought_.size()) {
      arrived_ = 0;
      ++round_;
      shown_ = brought_;
      all_here_.notify_all();
      return shown_;
    }
    const std::uint64_t round = round_;
    const bool came = all_here_.wait_for(lock, kPatience, [&] { return round_ != round || gone_; });
    if (round_ == round) fail(ExitCode::kStopped, came ? "a rank has gone" : "no rank comes");
    return shown_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    all_here_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  std::vector<std::vector<double>> brought_, shown_;
  std::size_t arrived_ = 0;
  std::uint64_t round_ = 0;
  bool gone_ = false;
};

inline data::Shard shard_at(Meeting& meeting, int rank, int size) {
  data::Shard shard = {.rank = rank, .size = size, .all_max = {}, .all_gather = {}};
  shard.all_max = [&meeting, rank](std::span<double> values) {
    for (const auto& other : meeting.meet(rank, values)) {
      ONPA_CHECK(other.size() == values.size(), "all_max of ", other.size(), " and ",
                 values.size());
      for (std::size_t i = 0; i < other.size(); ++i) values[i] = std::max(values[i], other[i]);
    }
  };
  shard.all_gather = [&meeting, rank](std::span<const double> values) {
    std::vector<double> all;
    for (const auto& other : meeting.meet(rank, values)) {
      all.insert(all.end(), other.begin(), other.end());
    }
    return all;
  };
  return shard;
}

// What body(shard) threw on each rank; null: nothing.
inline std::vector<std::exception_ptr> outcomes_of_ranks(
    int size, const std::function<void(const data::Shard&)>& body) {
  Meeting meeting(size);
  std::vector<std::exception_ptr> outcomes(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(shard_at(meeting, rank, size));
      } catch (...) {
        outcomes[static_cast<std::size_t>(rank)] = std::current_exception();
      }
      meeting.leave();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

// The message and, before it, the exit code.
inline std::string text_of(const std::exception_ptr& outcome) {
  if (!outcome) return "";
  try {
    std::rethrow_exception(outcome);
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.code())) + ": " + error.what();
  } catch (const std::exception& error) {
    return error.what();
  }
}

// Fails if body(shard) throws on any rank.
inline void run_ranks(int size, const std::function<void(const data::Shard&)>& body) {
  for (const std::exception_ptr& outcome : outcomes_of_ranks(size, body)) {
    EXPECT_EQ(text_of(outcome), "");
  }
}

}  // namespace onpa::testing
