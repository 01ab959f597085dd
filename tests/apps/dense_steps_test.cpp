// Fused steps of a Dense (on a simulated GPU where the build has no other) as a run takes them.
#include "apps/training/dense_steps.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <vector>

#include "tensor/device.h"
#include "tests/apps/train_support.h"

namespace onpa::apps {
namespace {

constexpr std::int64_t kRows = 80, kBatch = 4, kStepsPerEpoch = 20;
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

Config small_config(std::int64_t log_steps) {
  return load_config(
      "dense", {},
      {"train.batch_size=" + std::to_string(kBatch), "train.log_steps=" + std::to_string(log_steps),
       "model.hidden=[7]", "model.dropout=0.2"});
}

// A model on the GPU and what takes its steps.
struct OnGpu {
  explicit OnGpu(const data::DataSet& data, std::int64_t log_steps = 1000)
      : config(small_config(log_steps)),
        task(make_dense_task(config, data)),
        params((task->initialize(1), task->module().parameter_slots())),
        optimizer(config.optimizer(), params) {
    params.move_to(DeviceKind::kCuda);
    optimizer.move_to(DeviceKind::kCuda);
    const auto rate = [this](std::int64_t step) {
      asked.push_back(step);
      return 0.01 / static_cast<double>(1 + step);
    };
    steps = std::make_unique<DenseSteps>(StepParts{config, *task, params, optimizer, rate},
                                         *task->dense_rows());
  }
  std::vector<StepResult> take_all(std::int64_t limit) {
    std::vector<StepResult> all;
    for (std::int64_t left = limit;;) {
      const std::vector<StepResult> some = steps->take(left);
      if (some.empty()) return all;
      all.insert(all.end(), some.begin(), some.end());
      left -= std::ssize(some);
    }
  }
  std::vector<float> values() const {
    return params.data().to(DeviceKind::kCpu).to_vector<float>();
  }

  Config config;
  std::unique_ptr<TrainTask> task;
  FlatParams params;
  nn::Optimizer optimizer;
  std::vector<std::int64_t> asked;  // steps whose learning rate was asked for: those queued
  std::unique_ptr<DenseSteps> steps;
};

class DenseStepsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  }
  data::DataSet data_ = testing::feature_data(kRows * 5 / 4);
};

TEST_F(DenseStepsTest, TakesAnEpochAndStops) {
  OnGpu run(data_);
  run.steps->start_epoch(0, 0, 0);
  const std::vector<StepResult> taken = run.take_all(kNoLimit);
  ASSERT_EQ(std::ssize(taken), kStepsPerEpoch);
  for (std::int64_t i = 0; i < kStepsPerEpoch; ++i) {
    const StepResult& step = taken[static_cast<std::size_t>(i)];
    EXPECT_EQ(step.cursor, (i + 1) * kBatch);
    EXPECT_EQ(step.samples, kBatch);
    EXPECT_TRUE(step.updated);
    EXPECT_EQ(run.asked[static_cast<std::size_t>(i)], i);
  }
  EXPECT_EQ(run.optimizer.step_count(), kStepsPerEpoch);
  EXPECT_EQ(std::ssize(run.asked), kStepsPerEpoch) << "steps of the next epoch were begun";
}

TEST_F(DenseStepsTest, TheGpuHasWorkWhileAGraphIsWaitedFor) {
  OnGpu run(data_, 2);
  run.steps->start_epoch(0, 0, 0);
  EXPECT_EQ(run.steps->take(kNoLimit).size(), 2u);
  EXPECT_GE(run.asked.size(), 6u);
  EXPECT_LT(run.asked.size(), 20u) << "lines of metrics would come at the end";
}

TEST_F(DenseStepsTest, BeginsNoStepBeyondTheLimit) {
  OnGpu run(data_);
  run.steps->start_epoch(0, 0, 0);
  EXPECT_EQ(run.take_all(13).size(), 13u);
  EXPECT_EQ(run.asked.size(), 13u);
  EXPECT_EQ(run.optimizer.step_count(), 13);
  EXPECT_EQ(run.take_all(100).size(), 7u);
}

// A request to stop: what is under way is still returned.
TEST_F(DenseStepsTest, ALimitOfNothingReturnsWhatIsUnderWay) {
  OnGpu run(data_, 2);
  run.steps->start_epoch(0, 0, 0);
  std::size_t returned = run.steps->take(kNoLimit).size();
  const std::size_t begun = run.asked.size();
  ASSERT_GT(begun, returned);
  returned += run.take_all(0).size();
  EXPECT_EQ(returned, begun);
  EXPECT_EQ(run.asked.size(), begun);
  EXPECT_EQ(run.optimizer.step_count(), static_cast<std::int64_t>(begun));
}

TEST_F(DenseStepsTest, ALineOfMetricsEndsAGraph) {
  OnGpu run(data_, 5);
  run.steps->start_epoch(0, 0, 3);  // the run's steps 3 to 22
  std::int64_t step = 3;
  for (;;) {
    const std::int64_t before = step;
    step += std::ssize(run.steps->take(kNoLimit));
    if (step == before) break;
    EXPECT_EQ(before / 5, (step - 1) / 5) << before << " to " << step;
  }
  EXPECT_EQ(step, 23);
}

TEST_F(DenseStepsTest, BitsDoNotDependOnHowStepsAreCut) {
  OnGpu one(data_), other(data_, 3);
  one.steps->start_epoch(0, 0, 0);
  one.take_all(kNoLimit);
  other.steps->start_epoch(0, 0, 0);
  EXPECT_EQ(other.take_all(7).back().cursor, 28);
  other.steps->start_epoch(0, 28, 7);
  other.take_all(kNoLimit);
  EXPECT_EQ(one.values(), other.values());
  // Stopped behind the last row, before the epoch's end was noted.
  other.steps->start_epoch(0, kRows, kStepsPerEpoch);
  EXPECT_TRUE(other.steps->take(kNoLimit).empty());
}

TEST_F(DenseStepsTest, SaysWhatAsksForAnotherWay) {
  const std::unique_ptr<TrainTask> task = make_dense_task(small_config(1), data_);
  const DenseRows& rows = *task->dense_rows();
  const std::size_t bytes = rows.x.byte_count() + rows.y.byte_count();
  const auto problem = [&](const std::vector<std::string>& set, std::size_t free_bytes) {
    return DenseSteps::problem(load_config("dense", {}, set), rows, free_bytes);
  };
  EXPECT_EQ(problem({}, 2 * bytes), "");
  EXPECT_EQ(problem({"train.precision=f32", "average.kind=swa", "train.loss=huber"}, 2 * bytes),
            "");
  EXPECT_NE(problem({"train.precision=bf16"}, 2 * bytes).find("bf16"), std::string::npos);
  EXPECT_NE(problem({"train.accumulate=3"}, 2 * bytes).find("3"), std::string::npos);
  EXPECT_NE(problem({"average.kind=ema"}, 2 * bytes).find("ema"), std::string::npos);
  EXPECT_NE(problem({"optim.kind=sgd"}, 2 * bytes).find("sgd"), std::string::npos);
  EXPECT_NE(problem({}, bytes).find("free"), std::string::npos);
}

}  // namespace
}  // namespace onpa::apps
