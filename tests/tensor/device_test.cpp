// What a machine without a usable GPU is told. Each case is a process of its own: the answer is
// found once.
#include "tensor/device.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/error.h"
#ifdef ONPA_CUDA_SIM
#include "tests/cuda_sim/device.h"
#endif

namespace onpa {
namespace {

[[noreturn]] void exit_as_the_command_does() {
  try {
    current_cuda();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(static_cast<int>(error.code()));
  }
  std::_Exit(0);
}

#ifdef ONPA_CUDA_SIM

class DeviceProblem : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(DeviceProblem, NoneOnTheSimulatedDevice) {
  EXPECT_EXIT(exit_as_the_command_does(), ::testing::ExitedWithCode(0), "");
}

TEST_F(DeviceProblem, NoDevice) {
  EXPECT_EXIT(
      {
        sim::device_options().count = 0;
        exit_as_the_command_does();
      },
      ::testing::ExitedWithCode(84), "no NVIDIA GPU is visible.*--device cpu");
}

TEST_F(DeviceProblem, DriverTooOld) {
  EXPECT_EXIT(
      {
        sim::device_options().start_error = cudaErrorInsufficientDriver;
        exit_as_the_command_does();
      },
      ::testing::ExitedWithCode(84), "driver is missing or too old.*update it");
}

TEST_F(DeviceProblem, ArchitectureTooOld) {
  EXPECT_EXIT(
      {
        sim::device_options().major = 7;
        sim::device_options().minor = 5;
        exit_as_the_command_does();
      },
      ::testing::ExitedWithCode(84), "compute capability 7.5, the kernels need 8.0");
}

TEST_F(DeviceProblem, DeviceThatDoesNotStart) {
  EXPECT_EXIT(
      {
        sim::device_options().start_error = cudaErrorInitializationError;
        exit_as_the_command_does();
      },
      ::testing::ExitedWithCode(84), "CUDA does not start: .*nvidia-smi");
}

#else

TEST(DeviceProblem, BuildWithoutCudaSaysSo) {
  EXPECT_EXIT(exit_as_the_command_does(), ::testing::ExitedWithCode(84), "CUDA");
}

#endif

}  // namespace
}  // namespace onpa
