// Which way a product runs, by the simulated device's clock: a GPU's own cannot be set.
#include "kernels/gemm.h"

#include <gtest/gtest.h>

#ifdef ONPA_CUDA_SIM
#include <string>
#include <vector>

#include "kernels/gemm_tuning.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda_sim/device.h"
#include "tests/kernels/gemm_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;
using testing::normal_values;

std::int64_t next_rows() {
  static std::int64_t rows = 100;  // plans live on: every test has two shapes of its own
  return rows += 2;
}

// A product of its own shape in the options of one test.
class GemmTuning : public ::testing::Test {
 protected:
  void SetUp() override { sim::device_options().algorithm_ms = {5, 3, 1, 4}; }
  void TearDown() override {
    set_gemm_tuning(false);
    sim::device_options() = before_;
  }

  Gemm<float> gemm_of() const {
    return {.trans_b = Trans::kYes,
            .m = m_,
            .n = kN,
            .k = kK,
            .a = da_.data(),
            .lda = kK,
            .b = db_.data(),
            .ldb = kK,
            .c = dc_.data(),
            .ldc = kN};
  }
  // Runs once and returns how many products that took.
  std::size_t products_of(const Gemm<float>& g, cudaStream_t stream = nullptr) {
    sim::device_stats().products.clear();
    sim::device_stats().biased_products = 0;
    gemm<float>(Cuda{stream}, g);
    std::size_t sum = 0;
    for (const auto& [candidate, count] : sim::device_stats().products) sum += count;
    return sum;
  }
  // The candidate of the only product of one run.
  int candidate_of(const Gemm<float>& g) {
    EXPECT_EQ(products_of(g), 1u);
    return sim::device_stats().products.begin()->first;
  }
  void expect_definition(Gemm<float> g, const std::vector<float>& c_before) const {
    const std::vector<float> got = dc_.to_host();
    g.a = a_.data();
    g.b = b_.data();
    g.bias = g.bias != nullptr ? bias_.data() : nullptr;
    const std::vector<double> want = testing::gemm_definition(g, c_before.data(), testing::Exact{});
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-5) << i;
  }

  static constexpr std::int64_t kN = 19, kK = 11;
  const sim::DeviceOptions before_ = sim::device_options();
  const std::int64_t m_ = next_rows();
  const std::vector<float> a_ = normal_values<float>(m_ * kK, 1),
                           b_ = normal_values<float>(kN * kK, 2),
                           bias_ = normal_values<float>(kN, 3),
                           c_ = normal_values<float>(m_ * kN, 4);
  const DeviceArray<float> da_{a_}, db_{b_}, dbias_{bias_}, dc_{c_}, dpre_{m_ * kN};
};

TEST_F(GemmTuning, OffTakesTheFirst) {
  EXPECT_EQ(candidate_of(gemm_of()), 0);
  EXPECT_EQ(candidate_of(gemm_of()), 0);
}

TEST_F(GemmTuning, TheFastestIsKept) {
  set_gemm_tuning(true);
  const std::size_t known = gemm_choices().size();
  EXPECT_GT(products_of(gemm_of()), 4u);
  EXPECT_EQ(candidate_of(gemm_of()), 2);
  ASSERT_EQ(gemm_choices().size(), known + 1);
  EXPECT_EQ(gemm_choices().back(), "f32 " + std::to_string(m_) +
                                       " x 19 x 11, b transposed: candidate 3 of 4, 1 ms; the "
                                       "first takes 5 ms");
  // Other addresses and values, same shape.
  Gemm<float> g = gemm_of();
  g.c = dpre_.data();
  EXPECT_EQ(candidate_of(g), 2);
  set_gemm_tuning(false);
  EXPECT_EQ(candidate_of(gemm_of()), 0);
}

TEST_F(GemmTuning, TheFirstStaysUnlessAnotherIsClearlyFaster) {
  sim::device_options().algorithm_ms = {100, 99};
  set_gemm_tuning(true);
  products_of(gemm_of());
  EXPECT_EQ(candidate_of(gemm_of()), 0);
}

TEST_F(GemmTuning, ACandidateThatDoesNotWorkIsPassedOver) {
  sim::device_options().algorithm_ms = {5, -1, 3};
  set_gemm_tuning(true);
  products_of(gemm_of());
  EXPECT_EQ(candidate_of(gemm_of()), 2);
}

TEST_F(GemmTuning, TimingAddsNothingToWhatIsAccumulated) {
  set_gemm_tuning(true);
  Gemm<float> g = gemm_of();
  g.beta = 1;
  EXPECT_GT(products_of(g), 4u);
  expect_definition(g, c_);
}

TEST_F(GemmTuning, TimingLeavesAResidualInPlaceAlone) {
  set_gemm_tuning(true);
  Gemm<float> g = gemm_of();
  g.residual = g.c;
  EXPECT_GT(products_of(g), 4u);
  g.residual = c_.data();
  expect_definition(g, c_);
}

TEST_F(GemmTuning, WithoutMemoryToTimeInTheFirstStays) {
  set_gemm_tuning(true);
  products_of(gemm_of());  // the library's own workspace is there
  const std::int64_t m = m_ - 1;
  Gemm<float> g = gemm_of();
  g.m = m;
  g.beta = 1;
  const std::vector<float> before = dc_.to_host();
  sim::device_options().memory_bytes = sim::device_stats().live_bytes;
  EXPECT_EQ(candidate_of(g), 0);
  expect_definition(g, before);
  EXPECT_EQ(candidate_of(g), 0) << "not tried again";
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(GemmTuning, NothingIsTimedDuringACapture) {
  set_gemm_tuning(true);
  products_of(gemm_of());  // the library's own workspace is there
  Gemm<float> g = gemm_of();
  g.m = m_ - 1;
  g.bias = dbias_.data();
  g.activation = Activation::kGelu;
  cudaStream_t stream = nullptr;
  ONPA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const auto captured = [&] {
    ONPA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_EQ(products_of(g, stream), 0u);
    cudaGraph_t graph = nullptr;
    ONPA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t instance = nullptr;
    ONPA_CUDA_CHECK(cudaGraphInstantiate(&instance, graph, 0));
    ONPA_CUDA_CHECK(cudaGraphDestroy(graph));
    ONPA_CUDA_CHECK(cudaGraphLaunch(instance, stream));
    ONPA_CUDA_CHECK(cudaStreamSynchronize(stream));
    ONPA_CUDA_CHECK(cudaGraphExecDestroy(instance));
    EXPECT_EQ(sim::device_stats().products.size(), 1u);
    return sim::device_stats().products.begin()->first;
  };
  EXPECT_EQ(captured(), 0) << "met in a capture first";
  expect_definition(g, c_);
  products_of(g, stream);  // waits for its timing
  EXPECT_EQ(captured(), 2);
  ONPA_CUDA_CHECK(cudaStreamDestroy(stream));
}

TEST_F(GemmTuning, TheBiasGoesWhereItCostsLess) {
  set_gemm_tuning(true);
  for (const bool keeps_argument : {false, true}) {
    for (const double bias_ms : {0.0, 3.0}) {
      SCOPED_TRACE(::testing::Message() << keeps_argument << ' ' << bias_ms);
      sim::device_options().bias_ms = bias_ms;
      Gemm<float> g = gemm_of();
      g.m = m_ - (bias_ms > 0 ? 1 : 0);
      g.bias = dbias_.data();
      g.activation = Activation::kGelu;
      g.pre_activation = keeps_argument ? dpre_.data() : nullptr;
      products_of(g);
      EXPECT_EQ(products_of(g), 1u);
      EXPECT_EQ(sim::device_stats().biased_products, bias_ms > 0 ? 0u : 1u);
      expect_definition(g, c_);
      if (!keeps_argument) continue;
      g.activation = Activation::kNone;
      g.a = a_.data();
      g.b = b_.data();
      g.bias = bias_.data();
      const auto want = testing::gemm_definition(g, c_.data(), testing::Exact{});
      const auto got = dpre_.to_host();
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-5) << i;
    }
  }
}

// A sum that is accumulated would be added twice: there the bias stays in the product.
TEST_F(GemmTuning, AnActivationOverAnAccumulatedSum) {
  set_gemm_tuning(true);
  sim::device_options().bias_ms = 3;
  Gemm<float> g = gemm_of();
  g.beta = 1;
  g.bias = dbias_.data();
  g.activation = Activation::kRelu;
  products_of(g);
  expect_definition(g, c_);
  EXPECT_EQ(products_of(g), 1u);
  EXPECT_EQ(sim::device_stats().biased_products, 1u);
}

}  // namespace
}  // namespace onpa::kernels
#endif
