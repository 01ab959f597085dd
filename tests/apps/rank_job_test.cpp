// How ranks end together, and what a rank that waits says.
#include "apps/training/rank_job.h"

#include <gtest/gtest.h>

#include <mutex>

#include "apps/training/stall_watch.h"
#include "dist/local.h"
#include "kernels/cpu/job_count.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

// What each rank is told when it ends with `errors[rank]`; a null one goes on.
std::vector<std::optional<CommonEnd>> ends_with(
    const std::vector<std::shared_ptr<std::exception>>& errors) {
  std::vector<std::optional<CommonEnd>> ends(errors.size());
  dist::run_local(static_cast<int>(errors.size()), [&](dist::Comm& comm) {
    const auto at = static_cast<std::size_t>(comm.rank());
    Ranks ranks(comm);
    if (errors[at]) ends[at] = end_together(ranks, *errors[at]);
    comm.barrier();
  });
  return ends;
}

std::shared_ptr<std::exception> own(ExitCode code) {
  return std::make_shared<Error>("own", code);
}
std::shared_ptr<std::exception> elsewhere(ExitCode code) {
  return std::make_shared<ElsewhereError>("told", code);
}

void expect_speaker(const std::vector<std::optional<CommonEnd>>& ends, std::size_t speaker,
                    ExitCode code) {
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    ASSERT_TRUE(ends[rank]) << rank;
    EXPECT_EQ(ends[rank]->code, static_cast<int>(code)) << rank;
    EXPECT_EQ(ends[rank]->speaks, rank == speaker) << rank;
  }
}

TEST(EndTogether, TheFirstSpeaksForAll) {
  const auto bad = own(ExitCode::kBadData);
  expect_speaker(ends_with({bad, bad, bad, bad}), 0, ExitCode::kBadData);
}

TEST(EndTogether, WhoHadTheErrorSpeaks) {
  expect_speaker(
      ends_with({elsewhere(ExitCode::kIo), own(ExitCode::kIo), elsewhere(ExitCode::kIo)}), 1,
      ExitCode::kIo);
  // A rank that only lost another one has less to say than that one.
  expect_speaker(
      ends_with({own(ExitCode::kStopped), own(ExitCode::kStopped), own(ExitCode::kOutOfMemory)}), 2,
      ExitCode::kOutOfMemory);
  expect_speaker(ends_with({own(ExitCode::kStopped), own(ExitCode::kStopped)}), 0,
                 ExitCode::kStopped);
  expect_speaker(ends_with({std::make_shared<std::bad_alloc>(), elsewhere(ExitCode::kOutOfMemory)}),
                 0, ExitCode::kOutOfMemory);
}

TEST(EndTogether, ARankAloneIsToldSo) {
  const auto ends = ends_with({nullptr, own(ExitCode::kIo), nullptr});
  EXPECT_FALSE(ends[1]);
}

TEST(StallMessage, NamesStepPhaseAndCollective) {
  RankPlace mine = {.calls = 3, .last_call = "barrier", .step = 12, .phase = "forward"};
  EXPECT_EQ(stall_message(mine, 5),
            "stalled: no progress for 5 s at step 12, in forward; last collective: barrier");
  mine.last_call = "";
  EXPECT_EQ(stall_message(mine, 300),
            "stalled: no progress for 300 s at step 12, in forward; last collective: none");
}

TEST(StallMessage, NamesThoseWhoHaveNotCome) {
  const RankPlace mine = {.calls = 7, .last_call = "barrier", .step = 2, .phase = "all_reduce"};
  const std::map<int, RankPlace> places = {
      {0, {.calls = 7, .last_call = "barrier", .step = 2, .phase = "all_reduce"}},
      {2, {.calls = 6, .last_call = "all_reduce (sum) of 2 f64", .step = 2, .phase = "load"}}};
  EXPECT_EQ(
      waiting_message(mine, 1, 4, places, 5),
      "stalled: no progress for 5 s at step 2, in all_reduce; last collective: barrier; rank 2 "
      "has not come: at step 2, in load; rank 3 has not come: it does not answer");
}

// What the watch takes for progress within a long pass.
TEST(JobCount, GrowsWithEachKernel) {
  const std::uint64_t before = kernels::job_count();
  kernels::parallel_for(3, 1, [](std::int64_t, std::int64_t) {});
  EXPECT_GT(kernels::job_count(), before);
}

}  // namespace
}  // namespace onpa::apps
