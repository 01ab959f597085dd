// `onpa bench comm`: what is measured, and what is made of it.
#include "apps/benchmark/bench_comm.h"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dist/local.h"
#include "kernels/error.h"
#include "tests/apps/ranks_support.h"
#include "tests/apps/run_command.h"

namespace onpa::apps {
namespace {

// As of two hosts with four ranks each; all_reduces reach `share` of the speed that is expected.
CommBenchResult made_up(double share) {
  CommBenchResult r{.ranks = 8,
                    .hosts = 2,
                    .most_ranks_a_host = 4,
                    .cores_a_host = 16,
                    .copy_bytes_second = 4e10,
                    .neighbour = {},
                    .all_reduce = {},
                    .backend = "MPI"};
  for (std::int64_t bytes = 1024; bytes <= 1 << 28; bytes *= 4) {
    const double seconds = 1e-5 + static_cast<double>(bytes) / 1e10;
    r.neighbour.push_back({bytes, seconds, seconds, 5});
    r.all_reduce.push_back({bytes, 0, 0, 5});
    CommTime& time = r.all_reduce.back();
    time.seconds = time.fastest_seconds = expected_seconds(r, r.all_reduce.size() - 1) / share;
  }
  return r;
}

TEST(BenchComm, BusBytesAreWhatEachRankHasToSend) {
  EXPECT_EQ(bus_bytes(1000, 2), 1000);
  EXPECT_EQ(bus_bytes(1000, 4), 1500);
}

TEST(BenchComm, ExpectsTransfersAndSums) {
  const CommBenchResult r = made_up(1);
  // 1.75 times the bytes at the neighbours' rate; nine eighths of them read or written by four
  // ranks.
  const double bytes = 1 << 28;
  EXPECT_NEAR(expected_seconds(r, 9),
              1.75 * r.neighbour[9].seconds + bytes * 1.125 * 4 / (2 * r.copy_bytes_second), 1e-9);
}

TEST(BenchComm, TheVerdictFollowsTheShareOfTheNetwork) {
  const CommVerdict good = comm_verdict(made_up(0.8));
  EXPECT_NEAR(good.share, 0.8, 0.01);
  EXPECT_EQ(good.text.rfind("good: 256 MiB take ", 0), 0u) << good.text;
  EXPECT_TRUE(good.causes.empty());
  EXPECT_EQ(comm_verdict(made_up(0.3)).text.rfind("fair: ", 0), 0u);
  const CommVerdict poor = comm_verdict(made_up(0.1));
  EXPECT_EQ(poor.text.rfind("poor: ", 0), 0u);
  ASSERT_FALSE(poor.causes.empty());
  EXPECT_NE(poor.causes[0].find("btl_tcp_if_include"), std::string::npos) << poor.causes[0];

  CommBenchResult crowded = made_up(0.1);
  crowded.cores_a_host = 2;
  EXPECT_NE(comm_verdict(crowded).causes[0].find("4 ranks share 2 cores"), std::string::npos);
  crowded.cores_a_host = crowded.most_ranks_a_host = 1;
  EXPECT_NE(comm_verdict(crowded).causes[0].find("--bind-to none"), std::string::npos);
}

TEST(BenchComm, AGpusMemoryIsOfOneRank) {
  CommBenchResult r = made_up(0.1);
  r.device = DeviceKind::kCuda;
  const double bytes = 1 << 28;
  EXPECT_NEAR(expected_seconds(r, 9),
              1.75 * r.neighbour[9].seconds + bytes * 1.125 / (2 * r.copy_bytes_second), 1e-9);
  EXPECT_NE(comm_verdict(r).causes[0].find("NCCL_DEBUG"), std::string::npos);
}

#ifdef ONPA_SIM_COMMAND
TEST(BenchComm, RanksWithGpusMeasureNccl) {
  std::list<testing::Command> ranks = testing::start_ranks(
      ONPA_SIM_COMMAND, 2, {"bench", "comm", "--device", "cuda", "--most-mib", "1"});
  const std::vector<testing::CommandResult> results = testing::ends_of(ranks);
  for (const testing::CommandResult& result : results) EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(results[0].out.find("NCCL over TCP"), std::string::npos) << results[0].out;
  EXPECT_NE(results[0].out.find("by each GPU"), std::string::npos) << results[0].out;
}
#endif

TEST(BenchComm, TextFitsTheScreenAndJsonHoldsAllSizes) {
  const CommBenchResult r = made_up(0.8);
  std::istringstream lines(comm_bench_text(r));
  int sizes = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 80u) << line;
    sizes += line.find("iB  ") != std::string::npos;
  }
  EXPECT_EQ(sizes, 10);
  const auto json = nlohmann::json::parse(comm_bench_json(r));
  EXPECT_EQ(json["all_reduce"].size(), 10u);
  EXPECT_EQ(json["neighbour"][9]["bytes"], 1 << 28);
  EXPECT_NEAR(json["share_of_expected"].get<double>(), 0.8, 0.01);
}

TEST(BenchComm, AllRanksMeasureTheSame) {
  std::array<CommBenchResult, 3> results;
  dist::run_local(3, [&](dist::Comm& comm) {
    results[static_cast<std::size_t>(comm.rank())] =
        bench_comm(comm, {.most_bytes = 1 << 14, .seconds_a_size = 0.01});
  });
  for (const CommBenchResult& r : results) {
    EXPECT_EQ(r.ranks, 3);
    EXPECT_EQ(r.hosts, 1);
    EXPECT_EQ(r.most_ranks_a_host, 3);
    ASSERT_EQ(r.all_reduce.size(), 3u);  // 1, 4 and 16 KiB
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_GE(r.all_reduce[i].repetitions, 5);
      EXPECT_GT(r.all_reduce[i].fastest_seconds, 0);
      EXPECT_LE(r.all_reduce[i].fastest_seconds, r.all_reduce[i].seconds);
      EXPECT_EQ(r.all_reduce[i].seconds, results[0].all_reduce[i].seconds);
      EXPECT_EQ(r.neighbour[i].seconds, results[0].neighbour[i].seconds);
    }
  }
}

TEST(BenchComm, OneRankIsAUsageError) {
  const auto alone = testing::run_command({"bench", "comm"});
  EXPECT_EQ(alone.code, 64);
  EXPECT_NE(alone.err.find("mpirun -np 4"), std::string::npos) << alone.err;
  EXPECT_EQ(testing::run_command({"bench", "comm", "--set", "train.lr=1"}).code, 64);
}

}  // namespace
}  // namespace onpa::apps
