// The run folder: lock, metrics and progress.
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/support/metrics_log.h"
#include "apps/support/progress.h"
#include "apps/support/run_dir.h"
#include "kernels/error.h"
#include "tests/apps/run_command.h"

namespace onpa::apps {
namespace {

std::string lock_error(const std::filesystem::path& folder) {
  try {
    const RunDir second(folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
    return error.what();
  }
  return "";
}

TEST(RunDir, SecondRunIsRefusedWhileTheFirstLives) {
  const testing::TempFolder folder;
  {
    const RunDir first(folder / "run");
    EXPECT_NE(lock_error(folder / "run").find(std::to_string(getpid())), std::string::npos);
  }
  EXPECT_EQ(lock_error(folder / "run"), "");
}

TEST(RunDir, LockOfADeadProcessIsTakenOver) {
  const testing::TempFolder folder;
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  testing::write_bytes(folder / "run" / "lock", std::string(host) + " 999999\n");
  EXPECT_EQ(lock_error(folder / "run"), "");
}

TEST(RunDir, LockOfAnotherHostIsRespected) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "run" / "lock", "elsewhere.example 12\n");
  EXPECT_NE(lock_error(folder / "run").find("elsewhere.example 12"), std::string::npos);
}

TEST(RunDir, ATornLockNamesNobody) {
  using namespace std::string_literals;
  for (const std::string& torn : {"elsewhere.example 1"s, "\0\0\0\0\0\0\n"s, "\0\0\0 12\n"s,
                                  "host\n"s, " 12\n"s, "host 1\0\n"s}) {
    const testing::TempFolder folder;
    testing::write_bytes(folder / "run" / "lock", torn);
    EXPECT_EQ(lock_error(folder / "run"), "") << torn;
  }
}

TEST(RunDir, UnwritableFolderIsRefused) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "file", "x");
  EXPECT_NE(lock_error(folder / "file" / "run"), "");
}

std::vector<std::int64_t> steps_in(const std::filesystem::path& file) {
  std::vector<std::int64_t> out;
  std::istringstream in(testing::read_bytes(file));
  for (std::string line; std::getline(in, line);) {
    out.push_back(nlohmann::json::parse(line).at("step").get<std::int64_t>());
  }
  return out;
}

TEST(MetricsLog, DropsWhatAResumedRunWritesAnew) {
  const testing::TempFolder folder;
  const auto file = folder / "metrics.jsonl";
  {
    MetricsLog log(file, 0, false);
    for (int step = 1; step <= 5; ++step) log.append(step, {{"loss", 0.1 * step}});
    log.append(3, {{"test_rmse", 0.5}});
  }
  std::ofstream(file, std::ios::app) << "{\"step\":6,\"lo";  // cut off by a kill
  { MetricsLog log(file, 3, true); }
  EXPECT_EQ(steps_in(file), (std::vector<std::int64_t>{1, 2, 3, 3}));
  { MetricsLog log(file, 3, false); }
  EXPECT_EQ(steps_in(file), (std::vector<std::int64_t>{1, 2, 3}));
  { MetricsLog log(file, 0, false); }
  EXPECT_EQ(testing::read_bytes(file), "");
}

TEST(MetricsLog, NonFiniteIsNull) {
  const testing::TempFolder folder;
  {
    MetricsLog log(folder / "m", 0, false);
    log.append(1, {{"loss", std::numeric_limits<double>::quiet_NaN()}});
  }
  EXPECT_TRUE(nlohmann::json::parse(testing::read_bytes(folder / "m")).at("loss").is_null());
}

TEST(Progress, LineFitsTheColumns) {
  ProgressState state;
  state.step = 120;
  state.total_steps = 500;
  state.epoch = 2;
  state.epochs = 10;
  state.loss = 0.0123;
  state.lr = 1e-5;
  state.samples_per_second = 85.4;
  state.wait_fraction = 0.031;
  state.memory_bytes = 1.234e9;
  state.eta_seconds = 3723;
  EXPECT_EQ(progress_line(state, 0),
            "step 120/500 | epoch 2/10 | loss 0.0123 | lr 1e-05 | 85.4 clips/s | data 3% | "
            "1.23 GB | ETA 1:02:03");
  EXPECT_EQ(progress_line(state, 30), "step 120/500 | epoch 2/10");
  EXPECT_EQ(progress_line(state, 5), "");
  state.samples = "rows";
  EXPECT_NE(progress_line(state, 0).find(" | 85.4 rows/s | "), std::string::npos);
  state.eta_seconds = std::numeric_limits<double>::infinity();
  EXPECT_NE(progress_line(state, 0).find("ETA ?"), std::string::npos);
}

}  // namespace
}  // namespace onpa::apps
