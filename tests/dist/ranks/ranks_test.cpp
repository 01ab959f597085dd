// Run as one rank of several (see ranks.cmake): `test_dist_ranks MODE`. Without a mode every rank
// runs the tests, each of which is one on all of them.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "dist/launch.h"
#include "tests/dist/comm_checks.h"
#include "tests/dist/rank_main.h"
#include "tests/dist/train_checks.h"

namespace onpa::dist {
namespace {

Comm* comm = nullptr;

TEST(Ranks, Values) {
  testing::check_values(*comm);
}

TEST(Ranks, LongerThanASegment) {
  testing::check_long_tensor(*comm, (std::int64_t{1} << 22) + 12345);
}

TEST(Ranks, StartedTogether) {
  testing::check_started_together(*comm);
}

TEST(Ranks, Refusals) {
  testing::check_refusals(*comm);
}

TEST(Ranks, Notes) {
  testing::check_notes(*comm);
}

TEST(Ranks, TrainsToTheWeightsOfOneRank) {
  testing::check_training(*comm);
}

// A rank sleeps after it has started an all_reduce; it ends on the others all the same.
TEST(Ranks, GoesOnWithoutItsCaller) {
  using Clock = std::chrono::steady_clock;
  const Tensor x = Tensor::full({1 << 20}, 1);
  comm->barrier();
  const auto begin = Clock::now();
  Work work = comm->start_all_reduce(x);
  if (comm->rank() == 0) {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    EXPECT_TRUE(work.done());
  }
  work.wait();
  if (comm->rank() != 0) {
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(2));
  }
  EXPECT_EQ(x.data<float>()[(1 << 20) - 1], static_cast<float>(comm->size()));
}

// Leaves the ranks apart: the last test of its process.
void disagree() {
  const bool last = comm->rank() == comm->size() - 1;
  const Tensor x = Tensor::zeros({last ? 501 : 500});
  try {
    comm->all_reduce(x);
  } catch (const Error& e) {
    const std::string text = e.what();
    const bool named = text.find("rank 0 calls call 0, all_reduce (sum) of 500 f32; rank " +
                                 std::to_string(comm->size() - 1)) != std::string::npos;
    if (!named || e.code() != ExitCode::kInternal) fail(ExitCode::kUsage, "wrong words: ", text);
    fail(ExitCode::kBadData, text);
  }
}

// What rank 1 does while the others wait for it; they never get past the barrier.
void go_wrong(const std::string& how) {
  if (how == "disagree") return disagree();
  if (comm->rank() == 1) {
    if (how == "throw" || how == "busy") fail(ExitCode::kBadData, "row 7 is empty");
    if (how == "abort") comm->abort(17);
    if (how == "abort300") comm->abort(300);
    if (how == "exit0") std::exit(0);
    if (how == "kill") raise(SIGKILL);
    fail(ExitCode::kUsage, "no way to go wrong called ", how);
  }
  // One that waits for nothing has to end too.
  if (how == "busy" && comm->rank() == 2) std::this_thread::sleep_for(std::chrono::hours(1));
  comm->barrier();
}

}  // namespace
}  // namespace onpa::dist

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return onpa::dist::testing::run_ranks([&](onpa::dist::Comm& ranks) {
    onpa::dist::comm = &ranks;
    if (argc <= 1) return RUN_ALL_TESTS();
    onpa::dist::go_wrong(argv[1]);
    return 0;
  });
}
