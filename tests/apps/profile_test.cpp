// `onpa train --profile`: what it records, writes and refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/training/profile_report.h"
#include "apps/training/trainer.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tests/apps/train_support.h"
#include "tests/support/timed_gpu.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// profile.csv by op: "calls", "seconds", ...; nothing where a cell is empty.
using Rows = std::map<std::string, std::map<std::string, double>>;
Rows read_rows(const fs::path& run) {
  const data::Table table = data::Table::read_csv(run / "profile.csv");
  Rows rows;
  for (std::int64_t r = 0; r < table.rows(); ++r) {
    auto& row = rows[std::string(table.cell(r, 0))];
    for (std::size_t c = 1; c + 1 < table.columns().size(); ++c) {
      const std::string cell(table.cell(r, static_cast<std::int64_t>(c)));
      if (!cell.empty()) row[table.columns()[c]] = std::stod(cell);
    }
  }
  return rows;
}

// What the trace says, after checking that it is whole: every event complete, every op within a
// step, and scopes of one thread either apart or one within the other.
struct Trace {
  std::vector<std::string> steps;
  std::map<std::string, int> calls;                   // ops
  std::map<std::string, int> phases;                  // and waits
  std::map<std::string, std::map<int, int>> threads;  // by name, then thread
};
Trace read_trace(const fs::path& run) {
  const Json json = Json::parse(read_bytes(run / "profile.json"));
  struct Span {
    double begin, end;
  };
  std::map<int, std::vector<Span>> spans;
  std::vector<Span> steps;
  std::vector<Span> ops;
  Trace trace;
  for (const Json& event : json.at("traceEvents")) {
    if (event.at("ph") == "M") continue;
    EXPECT_EQ(event.at("ph"), "X");
    const std::string name = event.at("name"), kind = event.at("cat");
    const double begin = event.at("ts"), length = event.at("dur");
    EXPECT_GE(length, 0) << name;
    const Span span = {begin, begin + length};
    const int thread = event.at("tid");
    spans[thread].push_back(span);
    ++trace.threads[name][thread];
    if (kind == "step") {
      trace.steps.push_back(name);
      steps.push_back(span);
    } else if (kind == "op") {
      ++trace.calls[name];
      EXPECT_GE(event.at("args").at("flops"), 0);
      ops.push_back(span);
    } else {
      ++trace.phases[name];
    }
  }
  constexpr double kRounding = 0.002;  // microseconds
  for (const Span& op : ops) {
    const auto holds = [&](const Span& step) {
      return step.begin <= op.begin + kRounding && op.end <= step.end + kRounding;
    };
    EXPECT_EQ(std::ranges::count_if(steps, holds), 1);
  }
  for (auto& [thread, all] : spans) {
    std::ranges::sort(all, [](const Span& a, const Span& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
    std::vector<double> open;
    for (const Span& span : all) {
      while (!open.empty() && open.back() <= span.begin + kRounding) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(span.end, open.back() + kRounding);
      }
      open.push_back(span.end);
    }
  }
  return trace;
}

class TrainProfile : public ::testing::Test {
 protected:
  void SetUp() override { feature_data(100).save(folder_ / "data"); }

  // 80 train rows in batches of 16: five steps an epoch, through autograd, as fused ones keep no
  // average of each step.
  std::vector<std::string> args(const std::string& name, std::vector<std::string> more = {}) const {
    std::vector<std::string> out = train_args(
        "dense", folder_ / "data", folder_ / name,
        {"train.epochs=3", "train.batch_size=16", "model.hidden=[16,8]", "average.kind=ema"});
    out.insert(out.end(), {"--device", "cpu"});
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  TempFolder folder_;
};

void expect_rows_of_dense(const Rows& rows, const Trace& trace, int steps) {
  const std::map<std::string, int> each = {
      {"linear_fwd", 3},        {"linear_bwd_activation", 2}, {"linear_bwd_input", 2},
      {"linear_bwd_weight", 3}, {"linear_bwd_bias", 3},       {"loss_fwd", 1},
      {"loss_bwd", 1},          {"gradient_norm", 1},         {"adamw", 1}};
  for (const auto& [op, calls] : each) {
    ASSERT_TRUE(rows.contains(op)) << op;
    EXPECT_EQ(rows.at(op).at("calls"), steps * calls) << op;
    EXPECT_EQ(trace.calls.at(op), steps * calls) << op;
    EXPECT_GT(rows.at(op).at("bytes"), 0) << op;
  }
  // 4-16-8-1, batch 16: two FLOPs a weight and sample, one a bias and a relu.
  EXPECT_EQ(rows.at("linear_fwd").at("flops"),
            steps * 16.0 * (2 * (4 * 16 + 16 * 8 + 8) + (16 + 8 + 1) + (16 + 8)));
  double sum = 0;
  for (const auto& [op, row] : rows) sum += op == "(all)" ? 0 : row.at("seconds");
  EXPECT_NEAR(sum, rows.at("(all)").at("seconds"), 1e-6);
}

// An epoch ends within the window: its evaluation and checkpoint are no part of any step.
TEST_F(TrainProfile, RecordsTheStepsOfTheWindowAndNothingElse) {
  ASSERT_EQ(run_command(args("plain")).code, 0);
  const CommandResult result = run_command(args("profiled", {"--profile", "steps=3:7"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const Trace trace = read_trace(folder_ / "profiled");
  EXPECT_EQ(trace.steps, (std::vector<std::string>{"step 3", "step 4", "step 5", "step 6"}));
  Rows rows = read_rows(folder_ / "profiled");
  expect_rows_of_dense(rows, trace, 4);
  EXPECT_GT(rows["linear_fwd"]["share_of_limit"], 0);
  EXPECT_EQ(trace.phases, (std::map<std::string, int>{
                              {"backward", 4}, {"forward", 4}, {"load", 4}, {"update", 4}}));
  EXPECT_NE(result.out.find("steps 3 to 6 on the CPU"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("linear_bwd_weight"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("(not in any op)"), std::string::npos) << result.out;
  EXPECT_TRUE(last_weights(folder_ / "plain") == last_weights(folder_ / "profiled"));
  for (const char* file : {"profile.json", "profile.csv"}) {
    EXPECT_FALSE(fs::exists(folder_ / "plain" / file)) << file;
  }
}

TEST_F(TrainProfile, FusedStepsAreOneOpEach) {
  const CommandResult result =
      run_command(args("profiled", {"--set", "average.kind=none", "--profile", "steps=3:7"}));
  ASSERT_EQ(result.code, 0) << result.err;
  Rows rows = read_rows(folder_ / "profiled");
  EXPECT_EQ(rows["dense_step"]["calls"], 4);
  EXPECT_GT(rows["dense_step"]["flops"], 0);
  EXPECT_FALSE(rows.contains("linear_fwd"));
}

TEST_F(TrainProfile, RefusesWhatIsNoWindow) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "want steps=A:B"},
      {"3:7", "steps=10:15 records steps 10 to 14"},
      {"steps=3", "want steps=A:B"},
      {"steps=3:7:9", "whole numbers"},
      {"steps=a:b", "whole numbers"},
      {"steps=1.5:3", "whole numbers"},
      {"steps=-1:3", "whole numbers"},
      {"steps=7:3", "steps=7:8 records one"},
      {"steps=3:3", "steps=3:4 records one"},
      {"steps=0:1001", "at most 1000: steps=0:1000"},
      {"steps=0:99999999999999999999", "whole numbers"},
      {"steps=9:10", "train.max_steps=9"},
  };
  for (const auto& [text, remedy] : cases) {
    const CommandResult result =
        run_command(args("refused", {"--profile", text, "--set", "train.max_steps=9"}));
    EXPECT_EQ(result.code, static_cast<int>(ExitCode::kUsage)) << text;
    EXPECT_NE(result.err.find(remedy), std::string::npos) << text << ": " << result.err;
  }
  EXPECT_FALSE(fs::exists(folder_ / "refused"));
}

TEST_F(TrainProfile, WindowAfterTheEndIsAWarning) {
  const CommandResult result = run_command(args("late", {"--profile", "steps=15:16"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("no step from 15 to 15 was taken, the run has ended at step 15"),
            std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "late" / "profile.json"));
}

// A window that the end cuts short is reported; files that cannot be written end no run.
TEST_F(TrainProfile, ReportsWhatItHasAndTrainsOnWithoutItsFiles) {
  fs::create_directories(folder_ / "cut" / "profile.csv");
  const CommandResult result = run_command(args("cut", {"--profile", "steps=13:20"}));
  EXPECT_EQ(result.code, static_cast<int>(ExitCode::kIo));
  EXPECT_NE(result.out.find("steps 13 to 14 on the CPU"), std::string::npos) << result.out;
  EXPECT_NE(result.err.find("profile.csv"), std::string::npos) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "cut" / "checkpoints" / "last" / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "cut" / "profile.json"));
}

class TrainProfileGpu : public TrainProfile {
 protected:
  void SetUp() override {
    if (const std::string problem = testing::gpu_missing(); !problem.empty())
      GTEST_SKIP() << problem;
    TrainProfile::SetUp();
  }
  // Trains with and without a profile of steps 2 to 4, which must end with the same bits.
  Trace train(const std::string& precision) {
    for (const std::string name : {"plain", "profiled"}) {
      apps::TrainOptions options;
      options.data = folder_ / "data";
      options.run = folder_ / name;
      options.device = "cuda";
      options.quiet = true;
      if (name == "profiled") options.profile = apps::ProfileWindow{.begin = 2, .end = 5};
      options.config = apps::load_config("dense", {},
                                         {"train.epochs=2", "train.batch_size=16",
                                          "model.hidden=[16,8]", "train.precision=" + precision});
      EXPECT_EQ(apps::train(options), 0) << name;
    }
    EXPECT_TRUE(last_weights(folder_ / "plain") == last_weights(folder_ / "profiled"));
    return read_trace(folder_ / "profiled");
  }

  const testing::ShortKernels short_kernels_;
};

TEST_F(TrainProfileGpu, StepsRunOpByOp) {
  Trace trace = train("bf16");
  EXPECT_EQ(trace.steps, (std::vector<std::string>{"step 2", "step 3", "step 4"}));
  expect_rows_of_dense(read_rows(folder_ / "profiled"), trace, 3);
  EXPECT_EQ(trace.phases["replay"], 0);
  EXPECT_EQ(trace.threads["linear_fwd"], (std::map<int, int>{{3, 9}}));
  EXPECT_EQ(trace.threads["forward"], (std::map<int, int>{{1, 3}}));
}

// Several steps may be one graph, and be waited for together; not so across the window's edges.
TEST_F(TrainProfileGpu, FusedStepsAreOneOpEach) {
  Trace trace = train("f32");
  EXPECT_EQ(trace.calls["dense_step"], 3);
  EXPECT_EQ(trace.steps.front().substr(0, 6), "step 2");
  EXPECT_EQ(trace.steps.back().back(), '4');
  // 4-16-8-1: two FLOPs of a product forward and four backward, of which the inputs need but two.
  const double product = 16 * (4 * 4 * 16 + 6 * (16 * 8 + 8)), adamw = 15 * (5 * 16 + 17 * 8 + 9);
  EXPECT_EQ(read_rows(folder_ / "profiled")["dense_step"]["flops"], 3 * (product + adamw));
}

TEST(TrainProfilePasst, HasTheFrontEndAndTheLoader) {
  const TempFolder folder;
  audio_data(folder / "audio", 10).save(folder / "data");
  std::vector<std::string> args =
      train_args("passt", folder / "data", folder / "run",
                 {"train.max_steps=3", "train.batch_size=2", "model.preset=passt-xs",
                  "data.seconds=0.4", "loader.workers=1"});
  args.insert(args.end(), {"--profile", "steps=1:3", "--device", "cpu"});
  const CommandResult result = run_command(args);
  ASSERT_EQ(result.code, 0) << result.err;
  Trace trace = read_trace(folder / "run");
  EXPECT_EQ(trace.calls["log_mel"], 2);
  EXPECT_EQ(trace.calls["patch_tokens_bwd"], 2);
  EXPECT_EQ(trace.calls["attention_bwd"], 2 * 2);
  EXPECT_EQ(trace.phases["block"], 2 * 2);
  EXPECT_EQ(trace.threads["wait_for_data"], (std::map<int, int>{{2, 2 * 2}}));
}

apps::ProfileEvent event(const char* name, ScopeKind kind, double begin, double end,
                         OpWork work = {}) {
  return {.name = name, .kind = kind, .work = work, .begin = begin, .end = end};
}

TEST(ProfileTable, HoldsRatesAgainstTheLimits) {
  apps::Profile profile;
  profile.spans = {{.step = 4, .count = 1, .begin = 0, .end = 6},
                   {.step = 5, .count = 1, .begin = 6, .end = 10}};
  profile.events = {event("forward", ScopeKind::kPhase, 0, 5),
                    event("product", ScopeKind::kOp, 0, 1, {.flops = 50e9, .bytes = 1e9}),
                    event("sum", ScopeKind::kOp, 1, 3, {.flops = 1e9, .bytes = 10e9}),
                    event("product", ScopeKind::kOp, 7, 8, {.flops = 50e9, .bytes = 1e9}),
                    event("draw", ScopeKind::kOp, 8, 8.5),
                    // Of the two seconds one is hidden behind "sum" and "product".
                    event("wait", ScopeKind::kWait, 2.5, 4),
                    event("wait", ScopeKind::kWait, 6.5, 7.5)};
  const apps::ProfileTable table =
      apps::profile_table(profile, "x", {.gflops = 100, .gigabytes_per_second = 20});
  ASSERT_EQ(table.ops.size(), 3u);
  EXPECT_EQ(table.ops[0].op, "product");
  EXPECT_EQ(table.ops[0].calls, 2);
  EXPECT_EQ(table.ops[1].op, "sum");
  EXPECT_EQ(table.ops[2].op, "draw");
  EXPECT_DOUBLE_EQ(table.share_of_limit(table.ops[0]), 0.5);   // 100 GFLOP in 2 s of 100 GFLOP/s
  EXPECT_DOUBLE_EQ(table.share_of_limit(table.ops[1]), 0.25);  // 10 GB in 2 s of 20 GB/s
  EXPECT_TRUE(table.bound_by_flops(table.ops[0]));
  EXPECT_FALSE(table.bound_by_flops(table.ops[1]));
  EXPECT_TRUE(std::isnan(table.share_of_limit(table.ops[2])));
  EXPECT_EQ(table.first_step, 4);
  EXPECT_EQ(table.steps, 2);
  EXPECT_DOUBLE_EQ(table.seconds, 10);
  EXPECT_DOUBLE_EQ(table.ops_seconds, 4.5);
  EXPECT_DOUBLE_EQ(table.wait_seconds, 1.5);
  EXPECT_DOUBLE_EQ(table.other_seconds, 4);
  const std::string text = apps::profile_text(table);
  EXPECT_NE(text.find("steps 4 to 5 on x: 5000.0 ms a step"), std::string::npos) << text;
}

}  // namespace
}  // namespace onpa::testing
