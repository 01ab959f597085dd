#include "nn/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kernels/error.h"
#include "tensor/io/safetensors.h"

namespace onpa::nn {
namespace {

TEST(Schedule, PasstTable) {
  const ScheduleConfig config{.kind = "passt", .warmup_epochs = 5};
  // The public recipe's values, to the digits they are published with.
  const std::pair<double, double> table[] = {{0, .0174}, {1, .0408}, {2, .1653}, {3, .4493},
                                             {4, .8187}, {75, .505}, {99, .0298}};
  for (const auto& [epoch, want] : table) {
    EXPECT_NEAR(lr_multiplier(config, epoch), want, 5e-5) << epoch;
    EXPECT_EQ(lr_multiplier(config, epoch + 0.75), lr_multiplier(config, epoch)) << epoch;
  }
  for (int epoch = 5; epoch <= 50; ++epoch) EXPECT_EQ(lr_multiplier(config, epoch), 1) << epoch;
  for (const double epoch : {100.0, 101.0, 1e6}) EXPECT_EQ(lr_multiplier(config, epoch), 0.01);
}

TEST(Schedule, LinearAndCosineAgreeWithPyTorch) {
  const io::SafetensorsFile golden = io::read_safetensors(ONPA_GOLDEN_DIR "/optim.safetensors");
  for (const char* kind : {"linear", "cosine"}) {
    const ScheduleConfig config{
        .kind = kind, .warmup_epochs = 4, .total_epochs = 16, .floor = 0.05};
    const Tensor want = golden.find(std::string("schedule.") + kind);
    ASSERT_EQ(want.numel(), 17);
    for (int epoch = 0; epoch <= 16; ++epoch) {
      EXPECT_NEAR(lr_multiplier(config, epoch), want.data<double>()[epoch], 1e-11)
          << kind << ' ' << epoch;
    }
    EXPECT_DOUBLE_EQ(lr_multiplier(config, 100), 0.05);
    EXPECT_DOUBLE_EQ(lr_multiplier(config, 1), 0.25);
    EXPECT_DOUBLE_EQ(lr_multiplier(config, 0.5), 0.125);
  }
  EXPECT_EQ(lr_multiplier({}, 1234.5), 1);
}

std::string error_of(const ScheduleConfig& config, double epoch = 0) {
  try {
    lr_multiplier(config, epoch);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
  return "no error";
}

TEST(Schedule, BadConfig) {
  EXPECT_EQ(error_of({.kind = "step"}),
            "schedule: unknown kind \"step\", want constant, linear, cosine or passt");
  EXPECT_EQ(error_of({.warmup_epochs = -1}), "schedule: warmup_epochs is -1, want 0 or more");
  EXPECT_EQ(error_of({.kind = "cosine", .warmup_epochs = 2, .total_epochs = 2}),
            "schedule: total_epochs is 2, want more than warmup_epochs");
  EXPECT_EQ(error_of({.floor = 1.5}), "schedule: floor is 1.5, want [0, 1]");
  EXPECT_EQ(error_of({.kind = "passt", .ramp_epochs = 0}),
            "schedule: ramp_epochs is 0, want more than 0");
  EXPECT_EQ(error_of({}, NAN), "schedule: epoch is nan, want 0 or more");
}

}  // namespace
}  // namespace onpa::nn
