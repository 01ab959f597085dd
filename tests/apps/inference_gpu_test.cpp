// Evaluation and prediction on the GPU (a simulated one where the test program has no other) beside
// the CPU's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "apps/inference/predictor.h"
#include "apps/study/evaluate.h"
#include "apps/training/trainer.h"
#include "data/table.h"
#include "tensor/device.h"
#include "tests/apps/train_support.h"
#ifdef ONPA_CUDA_SIM
#include "tests/cuda_sim/device.h"
#endif

namespace onpa::apps {
namespace {

class InferenceGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
    if (const std::string problem = cuda_problem(); !problem.empty()) GTEST_SKIP() << problem;
  }
  // A run of one epoch on the CPU.
  std::filesystem::path trained(const std::string& model, const data::DataSet& data,
                                const std::vector<std::string>& set) {
    data.save(folder_ / "data");
    TrainOptions options;
    options.data = folder_ / "data";
    options.run = folder_ / "run";
    options.device = "cpu";
    options.quiet = true;
    options.config = load_config(model, {}, set);
    EXPECT_EQ(train(options), 0);
    return options.run;
  }
  std::filesystem::path trained_dense() {
    return trained("dense", testing::feature_data(60),
                   {"train.epochs=1", "model.hidden=[16,8]", "train.lr=0.01"});
  }
  std::filesystem::path trained_passt() {
    data_ = testing::audio_data(folder_ / "audio", 20);  // 4 of them to test on
    return trained("passt", data_,
                   {"model.preset=passt-xs", "train.epochs=1", "train.batch_size=8",
                    "data.seconds=0.2", "train.patchout_time=0", "train.patchout_freq=0"});
  }
  std::vector<float> evaluate(const std::filesystem::path& run, const ComputeChoice& compute) {
    std::vector<float> out;
    const auto data = data::DataSet::load(folder_ / "data");
    for (const TrackPrediction& p : evaluate_run(run, data, 4, compute).predictions) {
      out.push_back(p.prediction);
    }
    return out;
  }
  static float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    EXPECT_FALSE(a.empty());
    float out = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      out = std::max(out, std::abs(a[i] - b[i]));
    }
    return out;
  }

  testing::TempFolder folder_;
  data::DataSet data_;
};

// Predictions are around 0.1: a few units of float.
constexpr float kFloatBound = 1e-6F;

TEST_F(InferenceGpu, DenseEvaluatesInFloatUnlessAskedOtherwise) {
  const auto run = trained_dense();
  const std::vector<float> cpu = evaluate(run, {.device = "cpu"});
  EXPECT_LT(largest_difference(cpu, evaluate(run, {.device = "cuda"})), kFloatBound);
  const float rounded =
      largest_difference(cpu, evaluate(run, {.device = "cuda", .precision = "bf16"}));
  EXPECT_GT(rounded, kFloatBound);  // it did compute in bf16
  EXPECT_LT(rounded, 0.02F);        // of activations around 1, with 8 bits each
}

TEST_F(InferenceGpu, PasstEvaluatesInBf16UnlessAskedOtherwise) {
  const auto run = trained_passt();
  const std::vector<float> cpu = evaluate(run, {.device = "cpu"});
  const auto exact = evaluate(run, {.device = "cuda", .precision = "f32"});
  EXPECT_LT(largest_difference(cpu, exact), kFloatBound);
  const float rounded = largest_difference(cpu, evaluate(run, {.device = "cuda"}));
  EXPECT_GT(rounded, kFloatBound);
  EXPECT_LT(rounded, 0.02F);
}

TEST_F(InferenceGpu, PredictorGivesTheCpusFeaturesAndLogits) {
  const auto run = trained_passt();
  std::vector<float> wave(9000);
  for (std::size_t i = 0; i < wave.size(); ++i) {
    wave[i] = static_cast<float>(0.3 * std::sin(0.1 * static_cast<double>(i)));
  }
  Predictor cpu(run), gpu(run);
  gpu.compute_on({.device = "cuda", .precision = "f32"});
  const Predictor::Output a = cpu.predict(wave, "wave"), b = gpu.predict(wave, "wave");
  EXPECT_LT(largest_difference(a.logits, b.logits), 1e-5F);
  EXPECT_LT(largest_difference(a.features, b.features), 2e-5F);  // of a layer norm: around 1
}

#ifdef ONPA_CUDA_SIM
TEST_F(InferenceGpu, BatchesThatDoNotFitAreEvaluatedInParts) {
  const auto run = trained_passt();
  const ComputeChoice compute = {.device = "cuda", .precision = "f32"};
  const std::vector<float> whole = evaluate(run, compute);
  release_cached_memory(DeviceKind::kCuda);
  const auto before = sim::device_options();
  const std::size_t taken = sim::device_stats().live_bytes;  // by the libraries
  // Found by bisection: the least memory in which the four clips can be evaluated at all.
  std::size_t too_little = 0, enough = before.memory_bytes;
  std::vector<float> least;
  while (enough - too_little > (std::size_t{1} << 16)) {
    sim::device_options().memory_bytes = (too_little + enough) / 2;
    try {
      least = evaluate(run, compute);
      enough = sim::device_options().memory_bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kOutOfMemory) << error.what();
      too_little = sim::device_options().memory_bytes;
    }
    release_cached_memory(DeviceKind::kCuda);
  }
  sim::device_options() = before;
  // Less than the batch of four takes, and the same up to the rounding of other batch sizes.
  reset_peak_memory(DeviceKind::kCuda);
  evaluate(run, compute);
  EXPECT_LT(enough - taken, memory_stats(DeviceKind::kCuda).peak_bytes);
  EXPECT_LT(largest_difference(whole, least), kFloatBound);
}
#endif

}  // namespace
}  // namespace onpa::apps
