#include "kernels/cpu/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace onpa::kernels {
namespace {

TEST(Parallel, CoversEachIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    for (const std::int64_t n : {0, 1, 7, 64, 1001}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
      parallel_for(n, 3, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(Parallel, RangesAreMultiplesOfTheGrain) {
  set_thread_count(2);
  std::atomic<int> odd{0};
  parallel_for(1000, 16, [&](std::int64_t begin, std::int64_t end) {
    if (begin % 16 != 0 || (end % 16 != 0 && end != 1000)) ++odd;
  });
  EXPECT_EQ(odd.load(), 0);
}

TEST(Parallel, RethrowsAndStaysUsable) {
  set_thread_count(2);
  EXPECT_THROW(
      parallel_for(100, 1, [](std::int64_t, std::int64_t) { throw std::logic_error("x"); }),
      std::logic_error);
  std::atomic<std::int64_t> sum{0};
  parallel_for(100, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum.load(), 100);
}

// Workers find the next job while they look for it, while they sleep, and too late.
TEST(Parallel, JobsAfterPausesOfAnyLength) {
  for (const int threads : {2, 3}) {
    set_thread_count(threads);
    for (int job = 0; job < 400; ++job) {
      std::vector<int> seen(9);  // read without a lock once the job is over
      parallel_for(9, 1, [&](std::int64_t begin, std::int64_t end) {
        for (; begin < end; ++begin) seen[static_cast<std::size_t>(begin)] += job;
      });
      ASSERT_EQ(seen, std::vector<int>(9, job));
      if (job % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(job));
    }
  }
}

TEST(Parallel, CallersOnTwoThreads) {
  set_thread_count(2);
  std::atomic<std::int64_t> sum{0};
  const auto call = [&] {
    for (int job = 0; job < 300; ++job) {
      parallel_for(7, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    }
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_EQ(sum.load(), 2 * 300 * 7);
}

TEST(Parallel, NestedCallsRunInline) {
  set_thread_count(2);
  std::atomic<int> sum{0};
  parallel_for(8, 1, [&](std::int64_t b, std::int64_t e) {
    for (std::int64_t i = b; i < e; ++i) {
      parallel_for(10, 1,
                   [&](std::int64_t ib, std::int64_t ie) { sum += static_cast<int>(ie - ib); });
    }
  });
  EXPECT_EQ(sum.load(), 80);
}

}  // namespace
}  // namespace onpa::kernels
