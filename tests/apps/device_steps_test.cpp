// Training steps on the GPU (a simulated one where the build has no other) on batches made here.
#include "apps/training/device_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "kernels/error.h"
#include "nn/dense.h"
#include "tensor/device.h"
#include "tensor/ops/loss.h"
#include "tests/support/random_values.h"

namespace onpa::apps {
namespace {

constexpr std::int64_t kBatch = 4, kInputs = 3, kBatches = 5;

nn::DenseConfig small_model() {
  nn::DenseConfig config;
  config.inputs = kInputs;
  config.hidden = {5};
  return config;
}

// Five batches an epoch, each a second to wait for.
class FakeTask : public TrainTask {
 public:
  nn::Module& module() override { return model_; }
  void initialize(std::uint64_t seed) override { model_.initialize(seed); }
  const ModelCard& card() const override { return card_; }
  void start_epoch(std::uint64_t, std::int64_t cursor, std::uint64_t) override { next_ = cursor; }
  bool next_batch(std::uint64_t draw, HostBatch& batch) override {
    if (on_load) on_load(draw);
    if (next_ == kBatches) return false;
    const auto seed = static_cast<std::uint64_t>(next_);
    batch.inputs = {Tensor::from<float>({kBatch, kInputs},
                                        testing::normal_values<float>(kBatch * kInputs, seed)),
                    Tensor::from<float>({kBatch, 1}, testing::normal_values<float>(kBatch, seed))};
    batch.samples = kBatch;
    batch.first = first;
    batch.total = first + kBatch;
    batch.cursor = ++next_;
    ++loads;
    given = batch;
    return true;
  }
  Tensor loss(const std::vector<Tensor>& inputs, std::uint64_t draw,
              std::int64_t first_row) override {
    asked_of.insert(first_row);
    return ops::loss(model_.forward(inputs[0], 1, draw), inputs[1], kernels::LossKind::kMse);
  }
  std::int64_t batches_per_epoch() const override { return kBatches; }
  std::int64_t samples_per_epoch() const override { return kBatches * kBatch; }
  const std::string& evaluated() const override { return evaluated_; }
  std::vector<TrackPrediction> predict_held_out(const StopCheck&) override { return {}; }
  double wait_seconds() const override { return static_cast<double>(loads); }

  std::function<void(std::uint64_t draw)> on_load;
  HostBatch given;                  // the last one
  std::int64_t first = 0;           // of the batches to come
  std::set<std::int64_t> asked_of;  // first rows of the passes that were not replayed
  int loads = 0;

 private:
  nn::Dense model_{small_model()};
  ModelCard card_;
  std::string evaluated_ = "test";
  std::int64_t next_ = 0;
};

class DeviceStepsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
    task_.initialize(1);
    params_ = std::make_unique<FlatParams>(task_.module().parameter_slots());
    optimizer_ = std::make_unique<nn::Optimizer>(nn::OptimizerConfig{}, *params_);
    params_->move_to(DeviceKind::kCuda);
    optimizer_->move_to(DeviceKind::kCuda);
    synchronize(DeviceKind::kCuda);
    steps_ = std::make_unique<DeviceSteps>(
        StepParts{config_, task_, *params_, *optimizer_, [](std::int64_t) { return 0.01; }});
    steps_->start_epoch(0, 0, 0);
  }
  StepResult take_one(std::int64_t limit) {
    const std::vector<StepResult> taken = steps_->take(limit);
    EXPECT_EQ(taken.size(), 1u);
    return taken.empty() ? StepResult{} : taken[0];
  }
  // The parameters as they are now: the simulated device's memory is this process's, and its work
  // runs only when something waits for it.
  std::vector<float> peek() const {
    const auto* data = reinterpret_cast<const float*>(params_->data().bytes());
    return {data, data + params_->numel()};
  }

  Config config_;
  FakeTask task_;
  std::unique_ptr<FlatParams> params_;
  std::unique_ptr<nn::Optimizer> optimizer_;
  std::unique_ptr<DeviceSteps> steps_;
};

TEST_F(DeviceStepsTest, LoadsTheNextBatchWhileAStepRuns) {
  std::vector<float> before = peek();
  for (int step = 0; step < 3; ++step) {
    int ahead = 0;
    task_.on_load = [&](std::uint64_t draw) {
      if (draw == static_cast<std::uint64_t>(step)) return;
      EXPECT_EQ(draw, static_cast<std::uint64_t>(step + 1));
      EXPECT_EQ(peek(), before) << "waited for the step before loading";
      ++ahead;
    };
    const StepResult result = take_one(3 - step);
    EXPECT_EQ(ahead, step < 2 ? 1 : 0) << "no step is to follow the third";
    EXPECT_EQ(result.cursor, step + 1);
    EXPECT_EQ(result.samples, kBatch);
    EXPECT_NE(peek(), before);
    before = peek();
  }
  EXPECT_EQ(task_.loads, 3);
}

TEST_F(DeviceStepsTest, TheNextBatchIsUploadedWhenAStepReturns) {
  take_one(5);
  ASSERT_EQ(task_.loads, 2);
  std::ranges::fill(task_.given.inputs[0].span<float>(), std::nanf(""));  // no longer read
  EXPECT_TRUE(take_one(1).updated);
  EXPECT_EQ(task_.loads, 2);
}

TEST_F(DeviceStepsTest, AnEpochEndsAfterItsLastBatch) {
  for (int step = 0; step < kBatches; ++step) EXPECT_EQ(take_one(100).cursor, step + 1);
  EXPECT_TRUE(steps_->take(100).empty());
  EXPECT_EQ(optimizer_->step_count(), kBatches);
  steps_->start_epoch(1, 0, kBatches);
  EXPECT_EQ(take_one(100).cursor, 1);
}

TEST_F(DeviceStepsTest, ABatchLoadedButNotUsedComesAgain) {
  EXPECT_EQ(take_one(5).cursor, 1);
  EXPECT_TRUE(steps_->take(0).empty());
  ASSERT_EQ(task_.loads, 2);
  steps_->start_epoch(0, 1, 1);
  EXPECT_EQ(take_one(1).cursor, 2);
  EXPECT_EQ(task_.loads, 3);
}

// Dropout draws by the place in the whole batch, which a captured pass cannot change.
TEST_F(DeviceStepsTest, OtherRowsOfTheWholeBatchAreAnotherPass) {
  for (int step = 0; step < 3; ++step) take_one(1);
  EXPECT_EQ(task_.asked_of, std::set<std::int64_t>{0});
  task_.first = 2;
  EXPECT_TRUE(take_one(1).updated);
  EXPECT_EQ(task_.asked_of, (std::set<std::int64_t>{0, 2}));
}

TEST_F(DeviceStepsTest, AnErrorOfLoadingWaitsForTheStepBefore) {
  task_.on_load = [](std::uint64_t draw) {
    if (draw == 2) fail(ExitCode::kBadData, "too many bad tracks");
  };
  EXPECT_TRUE(take_one(5).updated);
  EXPECT_TRUE(take_one(4).updated);
  EXPECT_EQ(optimizer_->step_count(), 2);
  EXPECT_THROW(steps_->take(3), Error);
}

TEST_F(DeviceStepsTest, AccumulatedStepsLoadAheadToo) {
  config_.train.accumulate = 2;
  EXPECT_EQ(take_one(5).cursor, 2);
  EXPECT_EQ(task_.loads, 3);
  EXPECT_EQ(take_one(5).cursor, 4);
  const StepResult last = take_one(5);  // one pass is left
  EXPECT_EQ(last.cursor, 5);
  EXPECT_EQ(last.samples, kBatch);
  EXPECT_TRUE(steps_->take(5).empty());
}

// The GPU has work while the batch after the first is waited for.
TEST_F(DeviceStepsTest, OnlyWaitsThatHoldUpTheGpuCount) {
  take_one(5);
  take_one(5);
  EXPECT_EQ(task_.loads, 3);
  EXPECT_EQ(steps_->wait_seconds(), 1);
}

}  // namespace
}  // namespace onpa::apps
