// Training on a GPU whose memory is too small for the batch: only a simulated one can be told how
// much it has.
#ifdef ONPA_CUDA_SIM

#include <gtest/gtest.h>

#include <string>

#include "apps/training/trainer.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tensor/storage.h"
#include "tests/apps/train_support.h"
#include "tests/cuda_sim/device.h"

namespace onpa::apps {
namespace {

class GpuMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::audio_data(folder_ / "audio", 20).save(folder_ / "data");
    cuda_device();  // now the libraries have their own memory
  }
  void TearDown() override { sim::device_options() = before_; }

  // Two steps of 16 clips at most in so much memory; "" or what went wrong.
  std::string train(std::int64_t batch_size, std::size_t memory_bytes, int accumulate = 1) {
    release_cached_memory(DeviceKind::kCuda);
    sim::device_options().memory_bytes = sim::device_stats().live_bytes + memory_bytes;
    TrainOptions options;
    options.data = folder_ / "data";
    options.run = folder_ / ("run" + std::to_string(++runs_));
    options.device = "cuda";
    options.quiet = true;
    options.config =
        load_config("passt", {},
                    {"model.preset=passt-xs", "train.max_steps=2", "data.seconds=0.4",
                     "train.batch_size=" + std::to_string(batch_size), "train.eval_batch_size=1",
                     "train.accumulate=" + std::to_string(accumulate)});
    try {
      EXPECT_EQ(apps::train(options), 0);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kOutOfMemory) << error.what();
      return error.what();
    }
    return "";
  }

  const testing::TempFolder folder_;
  const sim::DeviceOptions before_ = sim::device_options();
  int runs_ = 0;
};

TEST_F(GpuMemory, TheBatchThatIsSaidToFitDoesAndTheNextDoesNot) {
  constexpr std::size_t kMemory = std::size_t{3} << 20;
  const std::string problem = train(16, kMemory);
  ASSERT_NE(problem.find("a batch of 16 needs"), std::string::npos) << problem;
  const std::string key = "train.batch_size=";
  const std::size_t at = problem.find(key);
  ASSERT_NE(at, std::string::npos) << problem;
  const std::int64_t fits = std::stoll(problem.substr(at + key.size()));
  ASSERT_GT(fits, 1) << problem;
  ASSERT_NE(16 % fits, 0);  // so that the second step is a short batch: in the first one's memory
  EXPECT_EQ(train(fits, kMemory), "");
  EXPECT_EQ(train(fits, kMemory, 2), "");
  EXPECT_NE(train(fits + 1, kMemory), "");
}

TEST_F(GpuMemory, SaysSoWhenNotEvenOneFits) {
  const std::string problem = train(16, std::size_t{1} << 20);
  EXPECT_NE(problem.find("out of memory on the GPU"), std::string::npos) << problem;
}

}  // namespace
}  // namespace onpa::apps

#endif
