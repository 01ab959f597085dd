// Training on the GPU through the whole trainer, in this process: on the simulated GPU where the
// test program has no other.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/training/trainer.h"
#include "data/loader.h"
#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "kernels/scalar.h"
#include "tensor/device.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class TrainGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
    if (const std::string problem = cuda_problem(); !problem.empty()) GTEST_SKIP() << problem;
    feature_data(100).save(folder_ / "data");
  }
  int train(const std::string& name, const std::string& device, std::vector<std::string> more) {
    apps::TrainOptions options;
    options.data = folder_ / "data";
    options.run = folder_ / name;
    options.device = device;
    options.quiet = true;
    options.init_from = init_from_;
    // 80 rows in batches of 32: the last batch of an epoch is short.
    std::vector<std::string> set = {
        "train.epochs=3",    "train.batch_size=32", "train.lr=0.01",   "model.hidden=[16,8]",
        "model.dropout=0.1", "optim.clip_norm=1",   "average.kind=ema"};
    set.insert(set.end(), more.begin(), more.end());
    options.config = apps::load_config("dense", {}, set);
    return apps::train(options);
  }
  io::SafetensorsFile weights(const std::string& name, const std::string& file = "model") const {
    return io::read_safetensors(folder_ / name / "checkpoints" / "last" / (file + ".safetensors"));
  }
  struct Difference {
    double largest = 0, mean = 0;
  };
  Difference difference(const std::string& a, const std::string& b,
                        const std::string& file = "model") const {
    const io::SafetensorsFile one = weights(a, file), two = weights(b, file);
    Difference out;
    std::int64_t count = 0;
    for (const auto& [name, tensor] : one.tensors) {
      const Tensor other = two.find(name);
      for (std::int64_t i = 0; i < tensor.numel(); ++i) {
        const double d = std::abs(static_cast<double>(tensor.data<float>()[i]) -
                                  static_cast<double>(other.data<float>()[i]));
        out.largest = std::max(out.largest, d);
        out.mean += d;
        ++count;
      }
    }
    out.mean /= static_cast<double>(count);
    return out;
  }
  void expect_same_bits(const std::string& a, const std::string& b) const {
    for (const char* file : {"model", "optim", "swa"}) {
      const auto path = [&](const std::string& run) {
        return folder_ / run / "checkpoints" / "last" / (std::string(file) + ".safetensors");
      };
      EXPECT_TRUE(read_bytes(path(a)) == read_bytes(path(b))) << file;
    }
  }

  TempFolder folder_;
  fs::path init_from_;  // empty: none
};

// AdamW divides by the root of the second moment, which makes the last bits of small gradients
// count: hence a bound well above rounding, and well below the 9 steps of 0.01 that are taken.
TEST_F(TrainGpu, DenseInFloatEndsWhereTheCpuDoes) {
  ASSERT_EQ(train("cpu", "cpu", {}), 0);
  ASSERT_EQ(train("gpu", "cuda", {"train.precision=f32"}), 0);
  EXPECT_LT(difference("cpu", "gpu").largest, 1e-4);
}

TEST_F(TrainGpu, AccumulatedPassesAreOneStep) {
  ASSERT_EQ(train("cpu", "cpu", {"train.accumulate=2"}), 0);
  ASSERT_EQ(train("gpu", "cuda", {"train.accumulate=2", "train.precision=f32"}), 0);
  EXPECT_LT(difference("cpu", "gpu").largest, 1e-4);
}

TEST_F(TrainGpu, Bf16KeepsMasterWeightsInFloat) {
  ASSERT_EQ(train("cpu", "cpu", {}), 0);
  ASSERT_EQ(train("gpu", "cuda", {"train.precision=bf16"}), 0);
  // Rounding turns the sign of gradients near zero, and AdamW then steps the other way: a few
  // weights are far off, the mean is not.
  EXPECT_LT(difference("cpu", "gpu").mean, 2e-3);
  // Weights that were kept in bf16 would have sixteen zero bits each.
  bool fine = false;
  const io::SafetensorsFile file = weights("gpu");
  for (const auto& [name, tensor] : file.tensors) {
    for (const float v : tensor.span<float>()) {
      fine = fine || static_cast<float>(bf16(v)) != v;
    }
  }
  EXPECT_TRUE(fine);
}

// All ways to multiply give the same bits on the simulated GPU.
TEST_F(TrainGpu, TimingProductsChangesNothingElse) {
  ASSERT_EQ(train("plain", "cuda", {}), 0);
  const std::size_t before = kernels::gemm_choices().size();
  ASSERT_EQ(train("tuned", "cuda", {"train.gemm_tuning=true"}), 0);
  EXPECT_GT(kernels::gemm_choices().size(), before);
  EXPECT_EQ(difference("plain", "tuned").largest, 0);
}

TEST_F(TrainGpu, ResumedRunHasTheBitsOfOneNeverStopped) {
  const std::string bf16 = "train.precision=bf16";
  ASSERT_EQ(train("whole", "cuda", {bf16}), 0);
  ASSERT_EQ(train("parts", "cuda", {bf16, "train.max_steps=4"}), 0);
  ASSERT_EQ(train("parts", "cuda", {bf16}), 0);
  expect_same_bits("whole", "parts");
}

// A Dense as it is trained on a GPU unless something is asked for that keeps it from fused steps:
// 20 steps an epoch, dropout, clipping, a schedule, averages at the ends of epochs.
class TrainGpuFused : public TrainGpu {
 protected:
  int train(const std::string& name, const std::string& device, std::vector<std::string> more) {
    std::vector<std::string> set = {"train.batch_size=4", "average.kind=swa",
                                    "schedule.kind=cosine"};
    set.insert(set.end(), more.begin(), more.end());
    return TrainGpu::train(name, device, set);
  }
  // Lines of metrics; those of steps, not of evaluations.
  std::vector<nlohmann::json> lines(const std::string& name) const {
    std::vector<nlohmann::json> out;
    std::istringstream in(read_bytes(folder_ / name / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      nlohmann::json json = nlohmann::json::parse(line);
      if (json.contains("loss")) out.push_back(std::move(json));
    }
    return out;
  }
  nlohmann::json state(const std::string& name) const {
    return nlohmann::json::parse(
        read_bytes(folder_ / name / "checkpoints" / "last" / "state.json"));
  }
};

// 60 steps of up to 0.01; as above for the bound. The norm of the gradient is what fused steps do
// not have.
TEST_F(TrainGpuFused, EndsWhereTheCpuDoes) {
  for (const char* clip_norm : {"0", "0.5"}) {
    const std::string clip = std::string("optim.clip_norm=") + clip_norm;
    const std::string cpu = std::string("cpu") + clip_norm, gpu = std::string("gpu") + clip_norm;
    ASSERT_EQ(train(cpu, "cpu", {clip}), 0);
    ASSERT_EQ(train(gpu, "cuda", {clip}), 0);
    EXPECT_LT(difference(cpu, gpu).largest, 2e-4);
    EXPECT_LT(difference(cpu, gpu, "swa").largest, 2e-4);
    const std::vector<nlohmann::json> want = lines(cpu), got = lines(gpu);
    ASSERT_EQ(got.size(), 6u);  // every ten steps
    ASSERT_EQ(want.size(), got.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i]["step"], want[i]["step"]);
      EXPECT_EQ(got[i]["epoch"], want[i]["epoch"]);
      EXPECT_EQ(got[i]["lr"], want[i]["lr"]);
      EXPECT_NEAR(got[i]["loss"].get<double>(), want[i]["loss"].get<double>(), 1e-4);
      EXPECT_TRUE(want[i].contains("grad_norm"));
      EXPECT_FALSE(got[i].contains("grad_norm"));
    }
    EXPECT_EQ(state(gpu)["samples"], state(cpu)["samples"]);
  }
}

TEST_F(TrainGpuFused, ResumedRunHasTheBitsOfOneNeverStopped) {
  ASSERT_EQ(train("whole", "cuda", {}), 0);
  // In the middle of an epoch, between two lines of metrics; at its end; after checkpoints.
  ASSERT_EQ(train("parts", "cuda", {"train.max_steps=13"}), 0);
  EXPECT_EQ(state("parts")["step"], 13);
  EXPECT_EQ(state("parts")["cursor"], 52);
  ASSERT_EQ(train("parts", "cuda", {"train.max_steps=20", "train.log_steps=3"}), 0);
  EXPECT_EQ(state("parts")["step"], 20);
  ASSERT_EQ(train("parts", "cuda", {"train.checkpoint_steps=7", "train.max_steps=41"}), 0);
  EXPECT_TRUE(fs::exists(folder_ / "parts" / "checkpoints" / "step_00000035"));
  ASSERT_EQ(train("parts", "cuda", {}), 0);
  expect_same_bits("whole", "parts");
}

// One row has a feature so far off that only it gets through to a unit with a huge weight: the loss
// of its batch overflows, and a step an epoch is left out.
TEST_F(TrainGpuFused, StepsThatAreNotFiniteAreSkippedAndCounted) {
  data::DataSet data = feature_data(100);
  data.tracks[42].features[0] = 1e6f;
  data.save(folder_ / "data");
  ASSERT_EQ(train("weights", "cpu", {"train.max_steps=1"}), 0);
  const io::SafetensorsFile file = weights("weights");
  file.find("layers.0.weight").data<float>()[0] = 1e30f;
  init_from_ = folder_ / "weights.safetensors";
  io::write_safetensors(init_from_, file.tensors, file.metadata);

  const std::vector<std::string> set = {"model.dropout=0", "optim.weight_decay=0"};
  ASSERT_EQ(train("cpu", "cpu", set), 0);
  ASSERT_EQ(train("gpu", "cuda", set), 0);
  EXPECT_EQ(state("cpu")["nonfinite_total"], 3);
  EXPECT_EQ(state("gpu")["nonfinite_total"], 3);
  EXPECT_EQ(state("gpu")["step"], 60);
  EXPECT_LT(difference("cpu", "gpu").largest, 2e-4);
  try {
    train("diverged", "cuda", {set[0], set[1], "train.max_nonfinite=1"});
    ADD_FAILURE() << "a step that was left out is one too many";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiverged) << error.what();
  }
}

TEST_F(TrainGpuFused, GoesOnFromACheckpointOfTheCpu) {
  ASSERT_EQ(train("cpu", "cpu", {}), 0);
  ASSERT_EQ(train("both", "cpu", {"train.max_steps=27"}), 0);
  ASSERT_EQ(train("both", "cuda", {}), 0);
  EXPECT_LT(difference("cpu", "both").largest, 2e-4);
}

// mp3 files in, everything that is drawn switched on: SpecAugment, band jitter, mixup, patchout.
class TrainGpuPasst : public TrainGpu {
 protected:
  int train(const std::string& name, const std::string& device, std::vector<std::string> more) {
    if (!fs::exists(folder_ / "clips")) audio_data(folder_ / "audio", 10).save(folder_ / "clips");
    apps::TrainOptions options;
    options.data = folder_ / "clips";
    options.run = folder_ / name;
    options.device = device;
    options.quiet = true;
    std::vector<std::string> set = {"model.preset=passt-xs",
                                    "train.epochs=2",
                                    "train.batch_size=3",
                                    "train.lr=0.001",
                                    "data.seconds=0.4",
                                    "data.mixup_alpha=0.3",
                                    "mel.freq_mask=8",
                                    "mel.time_mask=10",
                                    "mel.fmin_range_hz=10",
                                    "mel.fmax_range_hz=2000",
                                    "train.patchout_time=2",
                                    "train.patchout_freq=1",
                                    "train.patchout_unstructured=3"};
    set.insert(set.end(), more.begin(), more.end());
    options.config = apps::load_config("passt", {}, set);
    return apps::train(options);
  }
};

TEST_F(TrainGpuPasst, FloatEndsWhereTheCpuDoes) {
  ASSERT_EQ(train("cpu", "cpu", {}), 0);
  ASSERT_EQ(train("gpu", "cuda", {"train.precision=f32"}), 0);
  EXPECT_LT(difference("cpu", "gpu").largest, 5e-4);
  EXPECT_LT(difference("cpu", "gpu").mean, 1e-5);
}

TEST_F(TrainGpuPasst, Bf16StaysNearTheCpu) {
  ASSERT_EQ(train("cpu", "cpu", {}), 0);
  ASSERT_EQ(train("gpu", "cuda", {}), 0);
  EXPECT_LT(difference("cpu", "gpu").mean, 5e-4);
}

// Batches are loaded while the step before them runs. One that cannot be must not cost that step,
// nor may one that was loaded and not used be lost.
TEST_F(TrainGpuPasst, BadFilesKeepTheStepsBefore) {
  const std::vector<std::string> set = {"train.epochs=1", "data.max_bad_fraction=0"};
  ASSERT_EQ(train("never_bad", "cuda", set), 0);
  // Of eight rows in batches of three the last is in the third batch.
  const std::vector<std::int64_t> rows = feature_data(10).indices(data::Split::kTrain);
  const std::vector<std::int64_t> order = data::epoch_order(std::ssize(rows), 1, 0, true);
  const std::int64_t row = rows[static_cast<std::size_t>(order.back())];
  const fs::path file = folder_ / "audio" / ("track" + std::to_string(row) + ".mp3");
  const std::string good = read_bytes(file);
  write_bytes(file, "gone bad");
  try {
    train("repaired", "cuda", set);
    ADD_FAILURE() << "the bad file was not met";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData) << error.what();
  }
  EXPECT_TRUE(fs::exists(folder_ / "repaired" / "checkpoints" / "step_00000002"));
  write_bytes(file, good);
  ASSERT_EQ(train("repaired", "cuda", set), 0);
  EXPECT_TRUE(last_weights(folder_ / "repaired") == last_weights(folder_ / "never_bad"));
}

TEST_F(TrainGpuPasst, RecomputationKeepsTheBits) {
  ASSERT_EQ(train("plain", "cuda", {"train.epochs=1"}), 0);
  ASSERT_EQ(train("lean", "cuda", {"train.epochs=1", "train.recompute=block"}), 0);
  EXPECT_EQ(difference("plain", "lean").largest, 0);
}

TEST(TrainDevice, NoGpuIsADeviceError) {
  const TempFolder folder;
  feature_data(40).save(folder / "data");
  std::vector<std::string> args = train_args("dense", folder / "data", folder / "run", {});
  args.insert(args.end(), {"--device", "cuda"});
  const CommandResult result = run_command(args);  // on the real device, whatever this program has
  if (result.code == 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(result.code, static_cast<int>(ExitCode::kDevice));
  EXPECT_NE(result.err.find("--device cpu"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace onpa::testing
