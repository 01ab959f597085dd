#include "apps/benchmark/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "apps/benchmark/bench_inputs.h"
#include "apps/support/log.h"
#include "apps/training/step_taker.h"
#include "kernels/error.h"
#include "nn/passt.h"
#include "tensor/op_scope.h"

namespace onpa::apps {
namespace {

constexpr double kTimedSeconds = 10;
constexpr std::int64_t kFewestSteps = 5;
constexpr std::int64_t kMostWarmup = 50;
constexpr double kShortStepSeconds = 0.05;
constexpr std::int64_t kStepsOpByOp = 10;  // on the GPU, at most

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::size_t most_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

// Passes of an evaluation, as if they were steps.
class EvaluationPasses : public StepTaker {
 public:
  /// `pass` evaluates a batch and waits for its predictions.
  EvaluationPasses(std::function<void()> pass, std::int64_t samples)
      : pass_(std::move(pass)), samples_(samples) {}

  void start_epoch(std::int64_t, std::int64_t, std::int64_t) override {}
  std::vector<StepResult> take(std::int64_t limit) override {
    if (limit <= 0) return {};
    const PhaseScope scope("evaluate");
    pass_();
    StepResult result;
    result.updated = true;
    result.samples = samples_;
    return {result};
  }
  double wait_seconds() const override { return 0; }

 private:
  std::function<void()> pass_;
  std::int64_t samples_;
};

class Bench {
 public:
  explicit Bench(const BenchOptions& options);
  BenchResult run();

 private:
  void start_training();
  void start_evaluation();
  std::vector<double> warm_up();
  std::int64_t timed_steps(const std::vector<double>& warmup) const;
  std::int64_t tokens() const;
  std::vector<double> take(std::int64_t count, Profiler* profiler);
  void count_step(const StepResult& step);

  const BenchOptions options_;
  Config config_;
  Compute compute_;
  data::DataSet data_;
  std::unique_ptr<TrainTask> task_;
  // for training alone
  std::optional<FlatParams> params_;
  std::optional<nn::Optimizer> optimizer_;
  std::optional<nn::AveragedParams> average_;

  std::unique_ptr<StepTaker> steps_;
  std::int64_t step_ = 0, epoch_ = 0;
};

// Nothing is loaded from files, so what the loader would need is left out.
Config without_loader(Config config) {
  config.data.seconds = clip_seconds(config);
  config.loader.workers = 0;
  config.loader.cache_folder.clear();
  return config;
}

// An evaluation is not given its clips by the task.
ClipSource training_clips(const BenchOptions& options, const Config& config) {
  return options.training ? made_up_clips(config, config.train.batch_size) : ClipSource();
}

Bench::Bench(const BenchOptions& options)
    : options_(options),
      config_(without_loader(options.config)),
      compute_(choose_compute({options.device, config_.train.precision}, config_.model.kind)),
      data_(made_up_data(config_)),
      task_(config_.model.kind == "dense"
                ? make_dense_task(config_, data_)
                : make_passt_task(config_, data_, training_clips(options, config_))) {}

void Bench::start_training() {
  nn::Module& model = task_->module();
  params_.emplace(model.parameter_slots());
  optimizer_.emplace(config_.optimizer(), *params_);
  task_->initialize(static_cast<std::uint64_t>(config_.train.seed));
  if (config_.average.kind != "none") average_.emplace(*params_);
  steps_ = start_steps(
      {config_, *task_, *params_, *optimizer_, [this](std::int64_t) { return config_.train.lr; }},
      compute_, average_ ? &*average_ : nullptr);
  model.train();
}

void Bench::start_evaluation() {
  nn::Module& model = task_->module();
  task_->initialize(static_cast<std::uint64_t>(config_.train.seed));
  move_model(model, compute_);
  const std::int64_t batch = config_.train.eval_batch_size;
  std::function<void()> pass;
  if (auto* passt = dynamic_cast<nn::Passt*>(&model)) {
    const Tensor wave = made_up_clips(config_, batch)().wave;
    pass = [this, passt, wave] { logits_of(*passt, task_->card(), wave); };
  } else {
    auto& dense = dynamic_cast<nn::Dense&>(model);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(batch));
    std::iota(rows.begin(), rows.end(), 0);
    pass = [this, &dense, rows] { logits_of(dense, scaled_features(task_->card(), data_, rows)); };
  }
  steps_ = std::make_unique<EvaluationPasses>(std::move(pass), batch);
}

// On the CPU the first step makes the memory that all others find. On the GPU the second captures
// what later ones replay; a Dense has a graph for each number of steps. Short ones need a few more
// until caches and clocks have settled.
std::vector<double> Bench::warm_up() {
  if (options_.warmup) return take(*options_.warmup, nullptr);
  std::vector<double> seconds = take(compute_.device == DeviceKind::kCuda ? 3 : 1, nullptr);
  if (config_.model.kind == "dense" || seconds.back() < kShortStepSeconds) {
    const std::vector<double> more = take(kMostWarmup - std::ssize(seconds), nullptr);
    seconds.insert(seconds.end(), more.begin(), more.end());
  }
  return seconds;
}

std::int64_t Bench::timed_steps(const std::vector<double>& warmup) const {
  if (options_.steps) return *options_.steps;
  if (warmup.empty()) return 2 * kFewestSteps;
  const double steps = kTimedSeconds / std::max(warmup.back(), 1e-6);
  return std::clamp(static_cast<std::int64_t>(steps), kFewestSteps, kMostBenchSteps);
}

std::int64_t Bench::tokens() const {
  const ModelCard& card = task_->card();
  if (card.kind != "passt") return 0;
  const auto samples =
      static_cast<std::int64_t>(std::llround(config_.data.seconds * card.mel.rate_hz));
  const std::int64_t grid_t =
      std::min(card.passt.grid_t(card.mel.frames(samples)), card.passt.table_t);
  nn::Patchout patchout;
  if (options_.training) {
    patchout = {.time = config_.train.patchout_time,
                .freq = config_.train.patchout_freq,
                .unstructured = config_.train.patchout_unstructured};
  }
  return std::ssize(nn::draw_patchout(patchout, card.passt.grid_f(), grid_t, 0, 0)) + 2;
}

void Bench::count_step(const StepResult& step) {
  ++step_;
  if (!step.updated) {
    fail(ExitCode::kDiverged, "step ", step_, ": loss ", step.loss,
         " or its gradient is not finite: such a step updates nothing and is not worth timing; try "
         "a lower train.lr");
  }
  if (average_ && config_.average.kind == "ema") average_->update_ema(config_.average.ema_decay);
}

// Seconds of `count` steps, those between epochs left out.
std::vector<double> Bench::take(std::int64_t count, Profiler* profiler) {
  std::vector<double> seconds;
  while (std::ssize(seconds) < count) {
    if (profiler != nullptr) profiler->begin_steps(step_);
    const double begin = seconds_now();
    const std::vector<StepResult> taken = steps_->take(count - std::ssize(seconds));
    for (const StepResult& step : taken) count_step(step);
    const double each = (seconds_now() - begin) / static_cast<double>(std::ssize(taken));
    if (profiler != nullptr) profiler->end_steps(std::ssize(taken));
    seconds.insert(seconds.end(), taken.size(), each);
    if (taken.empty()) steps_->start_epoch(++epoch_, 0, step_);
  }
  return seconds;
}

BenchResult Bench::run() {
  reset_peak_memory(compute_.device);
  if (options_.training) {
    start_training();
  } else {
    start_evaluation();
  }
  steps_->start_epoch(0, 0, 0);
  BenchResult out;
  out.training = options_.training;
  out.compute = compute_;
  out.parameters = task_->module().parameter_count();
  out.samples = options_.training ? config_.train.batch_size * config_.train.accumulate
                                  : config_.train.eval_batch_size;
  out.tokens = tokens();
  out.clip_seconds = config_.data.seconds;
  out.config = options_.config;
  out.config.data.seconds = config_.data.seconds;
  spdlog::info("{} with {} parameters: warming up", config_.model.preset, out.parameters);
  const std::vector<double> warmup = warm_up();
  out.warmup = std::ssize(warmup);
  const std::int64_t timed = timed_steps(warmup);
  if (!warmup.empty()) {
    spdlog::info("timing {} steps, about {:.2g} s", timed,
                 static_cast<double>(timed) * warmup.back());
  }
  const bool together = compute_.device == DeviceKind::kCpu;
  const std::int64_t first = out.warmup + (together ? 0 : timed);
  const std::int64_t recorded = together ? timed : std::min(timed, kStepsOpByOp);
  Profiler profiler({.begin = first, .end = first + recorded}, compute_.device, compute_.dtype);
  out.step_seconds = take(timed, together ? &profiler : nullptr);
  out.tensor_bytes = memory_stats(compute_.device).peak_bytes;
  if (!together) take(recorded, &profiler);
  out.process_bytes = most_resident_bytes();
  out.profile = profiler.profile();
  out.table = profile_table(out.profile);
  return out;
}

}  // namespace

BenchResult bench(const BenchOptions& options) {
  return Bench(options).run();
}

double BenchResult::quantile(double q) const {
  std::vector<double> sorted = step_seconds;
  std::ranges::sort(sorted);
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double above = sorted[std::min(below + 1, sorted.size() - 1)];
  return sorted[below] + (place - static_cast<double>(below)) * (above - sorted[below]);
}

double BenchResult::samples_per_second() const {
  return static_cast<double>(samples) / median_seconds();
}

double BenchResult::realtime_factor() const {
  return samples_per_second() * clip_seconds;
}

double BenchResult::flops_per_step() const {
  double flops = 0;
  for (const ProfileRow& row : table.ops) flops += row.flops;
  return flops / static_cast<double>(table.steps);
}

double BenchResult::gflops() const {
  return 1e-9 * flops_per_step() / median_seconds();
}

double BenchResult::share_of_peak() const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  return table.limits.gflops > 0 ? gflops() / table.limits.gflops : kUnknown;
}

double BenchResult::least_seconds() const {
  if (table.limits.gflops <= 0) return std::numeric_limits<double>::quiet_NaN();
  double seconds = 0;
  for (const ProfileRow& row : table.ops) seconds += table.limits.seconds(row.flops, row.bytes);
  return seconds / static_cast<double>(table.steps);
}

}  // namespace onpa::apps
