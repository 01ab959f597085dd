// `onpa bench`: what it takes, counts, writes and refuses. No time is held against another.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/benchmark/bench_inputs.h"
#include "apps/benchmark/bench_report.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tests/apps/run_command.h"
#include "tests/support/timed_gpu.h"
#ifdef ONPA_CUDA_SIM
#include "tests/cuda_sim/device.h"
#endif

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Strings = std::vector<std::string>;

const Strings kTinyPasst = {"model.preset=passt-xs", "data.seconds=0.4", "train.batch_size=2",
                            "train.eval_batch_size=3"};
const Strings kTinyDense = {"model.hidden=[16,8]", "train.batch_size=16",
                            "train.eval_batch_size=24"};

std::map<std::string, std::int64_t> calls_of(const apps::ProfileTable& table) {
  std::map<std::string, std::int64_t> calls;
  for (const apps::ProfileRow& row : table.ops) calls[row.op] = row.calls;
  return calls;
}

// What must hold of any result with so many steps.
void expect_sound(const Json& json, int steps, int samples) {
  const Json& times = json.at("step_seconds");
  ASSERT_EQ(times.at("all").size(), static_cast<std::size_t>(steps));
  for (const Json& seconds : times.at("all")) EXPECT_GT(seconds, 0);
  EXPECT_LE(times.at("lower_quartile"), times.at("median"));
  EXPECT_LE(times.at("median"), times.at("upper_quartile"));
  const double median = times.at("median");
  EXPECT_EQ(json.at("samples_per_step"), samples);
  EXPECT_NEAR(json.at("samples_per_second").get<double>() * median, samples, 1e-9 * samples);
  const double flops = json.at("flops_per_step");
  EXPECT_NEAR(json.at("gflops_per_second").get<double>() * median, 1e-9 * flops, 1e-9 * flops);
  const Json& table = json.at("op_by_op");
  const std::int64_t recorded = table.at("steps");
  double seconds = 0, all_flops = 0;
  EXPECT_FALSE(table.at("ops").empty());
  for (const Json& op : table.at("ops")) {
    if (op.at("op") != "upload") {  // on the GPU, for several fused steps at once
      EXPECT_EQ(op.at("calls").get<std::int64_t>() % recorded, 0) << op;
    }
    seconds += op.at("seconds").get<double>();
    all_flops += op.at("flops").get<double>();
  }
  EXPECT_NEAR(all_flops, flops * static_cast<double>(recorded), 1e-9 * all_flops);
  const double all = table.at("seconds"), ops = table.at("ops_seconds"),
               wait = table.at("wait_seconds"), other = table.at("other_seconds");
  EXPECT_NEAR(seconds, ops, 1e-9);
  EXPECT_LE(ops, all * (1 + 1e-9));
  EXPECT_NEAR(ops + wait + other, all, 1e-9);
  EXPECT_EQ(wait, 0);  // nothing is loaded
  EXPECT_GT(json.at("limits").at("gflops_per_second"), 0);
  EXPECT_GT(json.at("peak_tensor_bytes"), 0);
}

class BenchCommand : public ::testing::Test {
 protected:
  CommandResult run(const std::string& model, const Strings& set, Strings more) {
    Strings args = {"bench", model, "--device", "cpu"};
    for (const std::string& setting : set) args.insert(args.end(), {"--set", setting});
    args.insert(args.end(), more.begin(), more.end());
    return run_command(args);
  }
  // With both files; checks what holds whatever is timed, and that all three say the same.
  Json run_whole(const std::string& model, const Strings& set, Strings more, int steps,
                 int samples) {
    more.insert(more.end(), {"--steps", std::to_string(steps), "--json", json_.string(), "--trace",
                             trace_.string()});
    const CommandResult result = run(model, set, more);
    EXPECT_EQ(result.code, 0) << result.err;
    if (result.code != 0) return {};
    const Json json = Json::parse(read_bytes(json_));
    expect_sound(json, steps, samples);
    EXPECT_EQ(json.at("op_by_op").at("steps"), steps);
    std::map<std::string, std::int64_t> calls;
    const Json trace = Json::parse(read_bytes(trace_));
    for (const Json& event : trace.at("traceEvents")) {
      if (event.value("cat", "") == "op") ++calls[event.at("name")];
    }
    for (const Json& op : json.at("op_by_op").at("ops")) {
      const std::string name = op.at("op");
      EXPECT_EQ(calls[name], op.at("calls"));
      EXPECT_NE(result.out.find("\n" + name + " "), std::string::npos) << result.out;
    }
    EXPECT_EQ(calls.size(), json.at("op_by_op").at("ops").size());
    for (const char* part : {"machine", "limits", "model", "batch", "rate", "work", "memory",
                             "(not in any op)", "(all)"}) {
      EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
    }
    return json;
  }
  static std::int64_t calls(const Json& json, const std::string& name) {
    for (const Json& op : json.at("op_by_op").at("ops")) {
      if (op.at("op") == name) return op.at("calls");
    }
    return 0;
  }

  const TempFolder folder_;
  const fs::path json_ = folder_ / "bench.json", trace_ = folder_ / "trace.json";
};

TEST_F(BenchCommand, TrainingStepsOfPasst) {
  Strings set = kTinyPasst;
  set.insert(set.end(), {"train.accumulate=2", "data.mixup_alpha=0.3"});
  const Json json = run_whole("passt", set, {"--warmup", "1"}, 3, 4);
  ASSERT_FALSE(json.is_null());
  EXPECT_EQ(json.at("what"), "train");
  EXPECT_EQ(json.at("model"), "passt-xs");
  EXPECT_EQ(json.at("warmup_steps"), 1);
  EXPECT_EQ(json.at("seconds_per_clip"), 0.4);
  // 0.4 s are 40 frames: 7 columns without the 4 left out, 5 rows without the one, and two more.
  EXPECT_EQ(json.at("tokens_per_clip"), 3 * 4 + 2);
  EXPECT_NEAR(json.at("realtime_factor").get<double>(),
              0.4 * json.at("samples_per_second").get<double>(), 1e-9);
  EXPECT_EQ(json.at("settings").at("train.accumulate"), 2);
  EXPECT_EQ(calls(json, "log_mel"), 3 * 2);
  EXPECT_EQ(calls(json, "attention_bwd"), 3 * 2 * 2);
  EXPECT_EQ(calls(json, "adamw"), 3);
}

TEST_F(BenchCommand, PassesOfPasst) {
  const Json json = run_whole("passt", kTinyPasst, {"--what", "eval"}, 2, 3);
  ASSERT_FALSE(json.is_null());
  EXPECT_EQ(json.at("what"), "eval");
  EXPECT_EQ(json.at("tokens_per_clip"), 7 * 5 + 2);
  EXPECT_EQ(calls(json, "attention_fwd"), 2 * 2);
  for (const char* op : {"attention_bwd", "adamw", "loss_fwd"}) {
    EXPECT_EQ(calls(json, op), 0) << op;
  }
}

// Fused steps, through the ends of epochs, which have 16 steps.
TEST_F(BenchCommand, TrainingStepsOfDense) {
  const Json json = run_whole("dense", kTinyDense, {"--warmup", "5"}, 40, 16);
  ASSERT_FALSE(json.is_null());
  EXPECT_EQ(calls(json, "dense_step"), 40);
  EXPECT_TRUE(json.at("tokens_per_clip").is_null());
  EXPECT_TRUE(json.at("realtime_factor").is_null());
  // 10-16-8-1: two FLOPs of a product forward and four backward, of which the inputs need but two.
  const double product = 16 * (4 * 10 * 16 + 6 * (16 * 8 + 8)), adamw = 15 * (11 * 16 + 17 * 8 + 9);
  EXPECT_EQ(json.at("flops_per_step"), product + adamw);
}

// The setting that makes a run train through autograd does so here; so does the average.
TEST_F(BenchCommand, TakesTheStepsThatTheSettingsAskFor) {
  Strings set = kTinyDense;
  set.push_back("average.kind=ema");
  const Json json = run_whole("dense", set, {"--warmup", "0"}, 20, 16);
  ASSERT_FALSE(json.is_null());
  EXPECT_EQ(calls(json, "dense_step"), 0);
  EXPECT_EQ(calls(json, "linear_fwd"), 3 * 20);
}

TEST_F(BenchCommand, PassesOfDense) {
  const Json json = run_whole("dense", kTinyDense, {"--what", "eval"}, 5, 24);
  ASSERT_FALSE(json.is_null());
  EXPECT_EQ(calls(json, "linear_fwd"), 3 * 5);
}

TEST_F(BenchCommand, ChoosesStepsItself) {
  const CommandResult result =
      run("dense", kTinyDense, {"--what", "eval", "--json", json_.string()});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = Json::parse(read_bytes(json_));
  EXPECT_GE(json.at("step_seconds").at("all").size(), 5u);
  EXPECT_EQ(json.at("warmup_steps"), 50);  // a Dense's
}

// A disk that fills up while the steps are timed.
TEST_F(BenchCommand, ShowsWhatItCannotWrite) {
  const Strings args = {"bench", "dense",       "--device",     "cpu",        "--steps",
                        "2",     "--json",      json_.string(), "--trace",    trace_.string(),
                        "--set", kTinyDense[0], "--set",        kTinyDense[1]};
  const CommandResult full = run_command(args, {{"ONPA_FAULT", "run:1+:enospc"}});
  EXPECT_TRUE(full.code == static_cast<int>(ExitCode::kIo) ||
              full.code == static_cast<int>(ExitCode::kCannotCreate))
      << full.code;
  EXPECT_NE(full.err.find("No space left on device"), std::string::npos) << full.err;
  EXPECT_NE(full.out.find("dense_step"), std::string::npos) << full.out;
  EXPECT_FALSE(fs::exists(json_) || fs::exists(trace_));
}

TEST(BenchHelp, NamesTheVerbAndItsOptions) {
  EXPECT_NE(run_command({"--help"}).out.find("  bench  "), std::string::npos);
  const CommandResult result = run_command({"bench", "--help"});
  EXPECT_EQ(result.code, 0);
  for (const char* option : {"--what", "--device", "--precision", "--steps", "--warmup", "--json",
                             "--trace", "--set", "--config"}) {
    EXPECT_NE(result.out.find(std::string("  ") + option + " "), std::string::npos) << option;
  }
}

TEST_F(BenchCommand, RefusesWhatItCannotTime) {
  const std::string none = (folder_ / "none" / "x").string();
  struct Case {
    std::string model;
    Strings set, more;
    ExitCode code;
    std::string text;
  };
  const std::vector<Case> cases = {
      {"forest", {}, {}, ExitCode::kUsage, "forest"},
      {"dense", {}, {"--what", "both"}, ExitCode::kUsage, "both"},
      {"dense", {}, {"--steps", "0"}, ExitCode::kUsage, "--steps"},
      {"dense", {}, {"--steps", "1001"}, ExitCode::kUsage, "--steps"},
      {"dense", {}, {"--warmup", "-1"}, ExitCode::kUsage, "--warmup"},
      {"dense", {}, {"--stpes", "3"}, ExitCode::kUsage, "did you mean '--steps'?"},
      {"dense", {}, {"--json", "x", "--trace", "x"}, ExitCode::kUsage, "same file"},
      {"dense", {}, {"--config", none}, ExitCode::kInputMissing, none},
      {"dense", {"train.lrr=1"}, {}, ExitCode::kConfig, "did you mean 'train.lr'?"},
      {"dense", {"model.preset=passt-s"}, {}, ExitCode::kConfig, "model.preset"},
      {"passt", {"model.preset=passt-xs", "data.seconds=0.01"}, {}, ExitCode::kConfig, "0.01"},
      {"passt", {"model.preset=passt-xs", "train.patchout_time=99"}, {}, ExitCode::kConfig, "99"},
      {"dense", {}, {"--json", none}, ExitCode::kCannotCreate, none},
      {"dense", {}, {"--trace", folder_.path().string()}, ExitCode::kCannotCreate, "regular file"},
      {"dense",
       {"train.lr=10", "optim.kind=sgd", "model.hidden=[16,8]"},
       {},
       ExitCode::kDiverged,
       "train.lr"},
      {"passt",
       {"model.preset=passt-xs", "data.seconds=1800", "train.batch_size=16777216"},
       {},
       ExitCode::kOutOfMemory,
       "memory"},
  };
  for (const Case& c : cases) {
    const CommandResult result = run(c.model, c.set, c.more);
    EXPECT_EQ(result.code, static_cast<int>(c.code)) << c.text << ": " << result.err;
    EXPECT_EQ(result.out, "") << c.text;
    EXPECT_NE(result.err.find(c.text), std::string::npos) << c.text << ": " << result.err;
  }
}

TEST(BenchInputs, DependOnTheSeedAlone) {
  const auto inputs = [](const std::string& seed) {
    Strings set = kTinyPasst;
    set.push_back("train.seed=" + seed);
    const apps::Config passt = apps::load_config("passt", {}, set);
    const data::AudioBatch clips = apps::made_up_clips(passt, 2)();
    std::vector<float> all = clips.wave.to_vector<float>();
    EXPECT_EQ(clips.wave.shape(), Shape({2, 12800}));
    EXPECT_NE(all[0], all[12800]);
    const std::vector<float> target = clips.target.to_vector<float>();
    all.insert(all.end(), target.begin(), target.end());
    set = kTinyDense;
    set.push_back("train.seed=" + seed);
    for (const data::Track& track :
         apps::made_up_data(apps::load_config("dense", {}, set)).tracks) {
      all.insert(all.end(), track.features.begin(), track.features.end());
      all.push_back(track.target);
    }
    return all;
  };
  EXPECT_EQ(inputs("3"), inputs("3"));
  EXPECT_NE(inputs("3"), inputs("4"));
}

TEST(BenchInputs, WholeClipsAreAsLongAsTheTimeTable) {
  apps::Config config = apps::load_config("passt", {}, {"model.preset=passt-xs", "data.seconds=0"});
  const double seconds = apps::clip_seconds(config);
  const auto samples = static_cast<std::int64_t>(std::llround(seconds * 32000));
  const nn::PasstConfig model = config.passt();
  EXPECT_EQ(model.grid_t(config.mel_config().frames(samples)), model.table_t);
  EXPECT_EQ(model.grid_t(config.mel_config().frames(samples - 1)), model.table_t - 1);
}

TEST(BenchResult, RatesAreThoseOfTheMedian) {
  apps::BenchResult result;
  result.step_seconds = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(result.median_seconds(), 2.5);
  EXPECT_DOUBLE_EQ(result.quantile(0.25), 1.75);
  EXPECT_DOUBLE_EQ(result.quantile(1), 4);
  result.samples = 5;
  result.clip_seconds = 10;
  EXPECT_DOUBLE_EQ(result.samples_per_second(), 2);
  EXPECT_DOUBLE_EQ(result.realtime_factor(), 20);
  result.table.steps = 2;
  result.table.ops = {{.op = "product", .calls = 2, .seconds = 4, .flops = 100e9, .bytes = 1e9},
                      {.op = "sum", .calls = 4, .seconds = 6, .flops = 0, .bytes = 20e9}};
  EXPECT_TRUE(std::isnan(result.share_of_peak()));
  EXPECT_TRUE(std::isnan(result.least_seconds()));
  result.table.limits = {.gflops = 100, .gigabytes_per_second = 20};
  EXPECT_DOUBLE_EQ(result.flops_per_step(), 50e9);
  EXPECT_DOUBLE_EQ(result.gflops(), 20);
  EXPECT_DOUBLE_EQ(result.share_of_peak(), 0.2);
  EXPECT_DOUBLE_EQ(result.least_seconds(), 1);  // a second each of FLOPs and of bytes, two steps
}

class BenchGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string problem = testing::gpu_missing(); !problem.empty())
      GTEST_SKIP() << problem;
  }
  static apps::BenchResult bench(const std::string& model, Strings set, bool training,
                                 std::int64_t steps) {
    apps::BenchOptions options;
    options.config = apps::load_config(model, {}, set);
    options.training = training;
    options.device = "cuda";
    options.steps = steps;
    apps::BenchResult result = apps::bench(options);
    EXPECT_EQ(std::ssize(result.step_seconds), steps);
    EXPECT_EQ(result.table.steps, std::min<std::int64_t>(steps, 10));
    EXPECT_NE(apps::bench_text(result).find("kernel by kernel"), std::string::npos);
    expect_sound(Json::parse(apps::bench_json(result)), static_cast<int>(steps),
                 static_cast<int>(result.samples));
    return result;
  }

  const testing::ShortKernels short_kernels_;
};

// Steps that are timed replay their graph; those recorded come after them.
TEST_F(BenchGpu, TrainingStepsOfPasst) {
  Strings set = kTinyPasst;
  set.push_back("train.precision=bf16");
  const apps::BenchResult result = bench("passt", set, true, 4);
  EXPECT_EQ(result.compute.dtype, DType::kBF16);
  EXPECT_GE(result.warmup, 3);
  EXPECT_EQ(result.profile.spans.front().step, result.warmup + 4);
  auto calls = calls_of(result.table);
  EXPECT_EQ(calls["attention_bwd"], 4 * 2);
  EXPECT_EQ(calls["log_mel"], 4);
}

TEST_F(BenchGpu, TrainingStepsOfDense) {
  const apps::BenchResult result = bench("dense", kTinyDense, true, 30);
  EXPECT_EQ(result.compute.dtype, DType::kF32);
  EXPECT_EQ(calls_of(result.table)["dense_step"], 10);
}

TEST_F(BenchGpu, Passes) {
  EXPECT_EQ(calls_of(bench("passt", kTinyPasst, false, 2).table)["attention_fwd"], 2 * 2);
  EXPECT_EQ(calls_of(bench("dense", kTinyDense, false, 2).table)["linear_fwd"], 2 * 3);
}

#ifdef ONPA_CUDA_SIM
TEST_F(BenchGpu, SaysWhichBatchWouldFit) {
  cuda_device();  // now the libraries have their own memory
  release_cached_memory(DeviceKind::kCuda);
  sim::device_options().memory_bytes = sim::device_stats().live_bytes + (std::size_t{3} << 20);
  Strings set = kTinyPasst;
  set.push_back("train.batch_size=16");
  try {
    bench("passt", set, true, 2);
    FAIL() << "16 clips were said not to fit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("train.batch_size="), std::string::npos)
        << error.what();
  }
}
#endif

}  // namespace
}  // namespace onpa::testing
