#include "dist/local.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "dist/alone.h"
#include "tests/dist/comm_checks.h"

namespace onpa::dist {
namespace {

class LocalAt : public ::testing::TestWithParam<int> {};

TEST_P(LocalAt, Values) {
  run_local(GetParam(), testing::check_values);
}

TEST_P(LocalAt, StartedTogether) {
  run_local(GetParam(), testing::check_started_together);
}

TEST_P(LocalAt, Refusals) {
  run_local(GetParam(), testing::check_refusals);
}

TEST_P(LocalAt, Notes) {
  run_local(GetParam(), testing::check_notes);
}

TEST(AloneTest, IsAJobOfOneRank) {
  Alone comm;
  EXPECT_EQ(comm.rank(), 0);
  EXPECT_EQ(comm.size(), 1);
  testing::check_values(comm);
  testing::check_notes(comm);
  try {
    comm.abort(17);
    FAIL() << "abort() came back";
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.code()), 17);
  }
}

// A barrier that let a rank pass early would be seen by it.
TEST_P(LocalAt, BarrierWaitsForAll) {
  std::atomic<int> arrived = 0;
  run_local(GetParam(), [&](Comm& comm) {
    for (int round = 1; round <= 20; ++round) {
      if (comm.rank() == round % comm.size()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      ++arrived;
      comm.barrier();
      EXPECT_EQ(arrived, round * comm.size());
      comm.barrier();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, LocalAt, ::testing::Values(1, 2, 3, 4, 8),
                         [](const auto& info) { return std::to_string(info.param); });

// The failures of a group of `size`: what run_local throws, and what the other ranks were told.
struct Failure {
  Error thrown{"nothing"};
  std::string others;
};
Failure failure_of(int size, const std::function<void(Comm&)>& body) {
  Failure failure;
  std::mutex mutex;
  try {
    run_local(size, [&](Comm& comm) {
      try {
        body(comm);
      } catch (const Error& e) {
        if (e.code() == ExitCode::kStopped) {
          const std::lock_guard lock(mutex);
          failure.others += std::string(e.what()) + "\n";
        }
        throw;
      }
    });
  } catch (const Error& e) {
    failure.thrown = e;
  }
  return failure;
}

TEST(Local, ARankThatThrowsReleasesTheOthers) {
  const Failure failure = failure_of(4, [](Comm& comm) {
    const Tensor x = Tensor::zeros({5});
    comm.all_reduce(x);
    if (comm.rank() == 2) fail(ExitCode::kBadData, "row 7 is empty");
    comm.all_reduce(x);
  });
  EXPECT_STREQ(failure.thrown.what(), "row 7 is empty");
  EXPECT_EQ(failure.thrown.code(), ExitCode::kBadData);
  for (const int rank : {0, 1, 3}) {
    EXPECT_NE(failure.others.find("rank " + std::to_string(rank) +
                                  ": all_reduce (sum) of 5 f32: rank 2 has failed"),
              std::string::npos)
        << failure.others;
  }
}

TEST(Local, CallsAfterALossFailAtOnce) {
  std::atomic<int> refused = 0;
  failure_of(2, [&](Comm& comm) {
    if (comm.rank() == 0) fail(ExitCode::kBadData, "row 7 is empty");
    for (int i = 0; i < 3; ++i) {
      try {
        comm.barrier();
      } catch (const Error&) {
        ++refused;
      }
    }
  });
  EXPECT_EQ(refused, 3);
}

TEST(Local, WhatWasCalledByAllStillEndsAfterARankFailed) {
  run_local(3, [](Comm& comm) {
    Tensor x = Tensor::full({100003}, 1);
    Work work = comm.start_all_reduce(x);
    if (comm.rank() == 1) return;
    work.wait();
    EXPECT_EQ(x.data<float>()[100002], 3);
  });
}

TEST(Local, ARankThatIsDoneIsNotWaitedFor) {
  const Failure failure = failure_of(3, [](Comm& comm) {
    if (comm.rank() == 0) return;
    comm.barrier();
  });
  EXPECT_EQ(failure.thrown.code(), ExitCode::kStopped);
  EXPECT_NE(failure.others.find("barrier: rank 0 has ended"), std::string::npos) << failure.others;
}

TEST(Local, AbortEndsTheJobWithItsCode) {
  for (const auto& [code, want] : {std::pair{17, 17}, {255, 255}, {300, 70}, {0, 70}}) {
    const Failure failure = failure_of(2, [&, code = code](Comm& comm) {
      if (comm.rank() == 1) comm.abort(code);
      comm.barrier();
    });
    EXPECT_EQ(static_cast<int>(failure.thrown.code()), want);
  }
}

TEST(Local, CallsThatDoNotGoTogetherFailOnAllRanks) {
  std::atomic<int> told = 0;
  const Failure failure = failure_of(3, [&](Comm& comm) {
    const Tensor x = Tensor::zeros({comm.rank() == 2 ? 8 : 9});
    try {
      comm.all_reduce(x);
    } catch (const Error& e) {
      EXPECT_STREQ(e.what(),
                   "rank 0 calls all_reduce (sum) of 9 f32, rank 2 all_reduce (sum) of 8 f32");
      ++told;
      throw;
    }
  });
  EXPECT_EQ(told, 3);
  EXPECT_EQ(failure.thrown.code(), ExitCode::kInternal);
  EXPECT_THROW(run_local(2,
                         [](Comm& comm) {
                           comm.rank() == 0 ? comm.barrier() : comm.broadcast(Tensor::zeros({1}));
                         }),
               Error);
}

TEST(Local, NoRanksAreRefused) {
  EXPECT_THROW(run_local(0, [](Comm&) {}), Error);
}

}  // namespace
}  // namespace onpa::dist
