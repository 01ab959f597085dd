#include "apps/training/memory_report.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

std::size_t bytes_of(const MemoryReport& report, const std::string& name) {
  for (const auto& [category, bytes] : report.bytes) {
    if (category == name) return bytes;
  }
  return 0;
}

TEST(MemoryReport, AddsUpAndGrowsWithTheBatch) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  MemoryQuestion question;
  question.model = nn::PasstConfig::preset("passt-xs");
  question.seconds = 1;
  question.batch = 4;
  const MemoryReport four = plan_passt_memory(question);
  question.batch = 8;
  const MemoryReport eight = plan_passt_memory(question);
  std::size_t sum = 0;
  for (const auto& [name, bytes] : four.bytes) sum += bytes;
  EXPECT_EQ(sum, four.total_bytes);

  const auto parameters = static_cast<std::size_t>(nn::Passt(question.model).parameter_count());
  // Each parameter: 4 bytes of master, 2 of weight, 2 of gradient; two moments of 4 bytes.
  EXPECT_NEAR(static_cast<double>(bytes_of(four, "parameters and gradients")),
              8.0 * static_cast<double>(parameters), 0.02 * 8 * static_cast<double>(parameters));
  EXPECT_EQ(bytes_of(four, "moments"), bytes_of(four, "parameters and gradients"));
  const auto ratio = static_cast<double>(bytes_of(eight, "activations")) /
                     static_cast<double>(bytes_of(four, "activations"));
  EXPECT_NEAR(ratio, 2, 0.1);
}

TEST(MemoryReport, ThirtySecondsWithoutPatchout) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  MemoryQuestion question;
  question.model = nn::PasstConfig::preset("passt-s");
  question.model.table_t = 299;
  question.model.outputs = 1;
  const MemoryReport eight = plan_passt_memory(question);
  EXPECT_EQ(eight.tokens, 3590);
  EXPECT_LT(eight.total_bytes, 16e9);
  question.batch = 48;
  EXPECT_LT(plan_passt_memory(question).total_bytes, 80e9);
}

TEST(MemoryReport, EachLevelOfRecomputationNeedsLess) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  MemoryQuestion question;
  question.model = nn::PasstConfig::preset("passt-s");
  question.model.table_t = 299;
  question.model.outputs = 1;
  question.batch = 16;
  std::size_t last = plan_passt_memory(question).total_bytes;
  for (const nn::Recompute level :
       {nn::Recompute::kNormGelu, nn::Recompute::kMlp, nn::Recompute::kBlock}) {
    question.recompute = level;
    const std::size_t bytes = plan_passt_memory(question).total_bytes;
    EXPECT_LT(static_cast<double>(bytes), 0.8 * static_cast<double>(last));
    last = bytes;
  }
  question.batch = 192;
  EXPECT_LT(plan_passt_memory(question).total_bytes, 80e9);
}

TEST(MemoryReport, TooShortAClipIsAConfigError) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  MemoryQuestion question;
  question.model = nn::PasstConfig::preset("passt-s");
  question.seconds = 0.1;
  try {
    plan_passt_memory(question);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
  }
}

}  // namespace
}  // namespace onpa::apps
