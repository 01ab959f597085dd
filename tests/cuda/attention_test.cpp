#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/error.h"
#include "kernels/scalar.h"
#include "tests/cuda/attention_runs.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/attention_cases.h"

namespace onpa::kernels {
namespace {

using testing::AttentionCase;
using testing::AttentionRun;
using testing::DeviceArray;
using testing::expect_near;
using testing::for_schedules;
using testing::run_attention;

// A score is a sum of `dim` products (error about sqrt(dim) * 6e-8 times its size, here a few
// units), which exp turns into a relative error of the probability.
struct Bounds {
  double y = 3e-6, lse = 3e-6, dqkv = 6e-6;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
void expect_true(const AttentionCase& s, const std::vector<double>& qkv_values,
                 const AttentionRun<T>& got, const Bounds& bounds) {
  const auto qkv = testing::seen_as<T>(qkv_values);
  const auto dy = testing::seen_as<T>(testing::attention_slope(s));
  const auto want = reference_attention(s, qkv, dy, testing::Exact{});
  const auto naive = reference_attention(s, qkv, dy, testing::RoundedToBf16{});
  expect_near(got.y, want.y, naive.y, bounds.y, 2);
  expect_near(got.dqkv, want.dqkv, naive.dqkv, bounds.dqkv, 3);
  // Near 0 a log-sum-exp is only as exact as its scores.
  const double size = std::max(1.0, testing::largest_of(want.lse));
  EXPECT_LE(testing::largest_error(got.lse, want.lse), bounds.lse * size);
  for (std::int64_t row = 0; row < s.batch * s.tokens; ++row) {
    if (row % s.tokens < s.queries) continue;
    for (std::int64_t c = 0; c < s.width(); ++c) {
      ASSERT_EQ(static_cast<float>(got.dqkv[row * 3 * s.width() + c]), 0.0f) << "dq of " << row;
    }
  }
}

// Near the truth, with the same bits under every schedule.
template <class T>
void check(const AttentionCase& s, const std::vector<double>& qkv, std::int64_t offset = 0,
           const Bounds& bounds = {}) {
  SCOPED_TRACE(::testing::Message() << s);
  std::optional<AttentionRun<T>> first;
  for_schedules([&] {
    const auto got = run_attention<T>(s, qkv, testing::attention_slope(s), offset);
    if (!first) {
      first = got;
      expect_true(s, qkv, got, bounds);
    }
    EXPECT_TRUE(same_bits(got.y, first->y));
    EXPECT_TRUE(same_bits(got.lse, first->lse));
    EXPECT_TRUE(same_bits(got.dqkv, first->dqkv));
  });
}
template <class T>
void check(const AttentionCase& s, std::int64_t offset = 0) {
  check<T>(s, testing::attention_input(s), offset);
}

TEST(AttentionCuda, FloatIsNearDouble) {
  for (const AttentionCase& s : testing::kAttentionCases) check<float>(s);
}

// The same kernels as in float, so fewer cases.
TEST(AttentionCuda, Bf16OfAnyWidthKeepsTheRule) {
  check<bf16>({2, 13, 3, 5, 13});
  check<bf16>({1, 101, 1, 72, 60});
}

TEST(AttentionCuda, Bf16OnTensorCoresKeepsTheRule) {
  for (const AttentionCase& s : testing::kAttentionTileCases) check<bf16>(s);
}

// Addresses that 16-byte accesses cannot use.
TEST(AttentionCuda, UnalignedArgumentsAreTaken) {
  check<bf16>({1, 97, 2, 64, 70}, 1);
  check<float>({1, 40, 1, 64, 40}, 1);
}

// A padded key that is not masked has probability exp(150), which times its zeros is not a number.
// Scores are exact to 150 * 6e-8 times the square root of the head width.
TEST(AttentionCuda, LowScoresStayFinite) {
  for (const std::int64_t tokens : {70, 100}) {
    const AttentionCase s{1, tokens, 1, 64, tokens};
    const auto qkv = testing::attention_input_of_low_scores(s);
    check<bf16>(s, qkv, 0, {.lse = 1e-4});
    check<float>(s, qkv, 0, {.y = 1e-4, .lse = 1e-6, .dqkv = 1e-4});
  }
}

// Scores in the hundreds, whose maximum moves from tile to tile.
TEST(AttentionCuda, LargeScoresStayFinite) {
  const AttentionCase s{1, 200, 1, 64, 200};
  auto qkv = testing::attention_input(s);
  for (std::int64_t n = 0; n < s.tokens; ++n) {
    for (std::int64_t c = 0; c < s.dim; ++c) {
      qkv[n * 3 * s.dim + c] *= 10;
      qkv[n * 3 * s.dim + s.dim + c] *= 1 + 10 * static_cast<double>(n) / 200;
    }
  }
  check<bf16>(s, qkv, 0, {.lse = 1e-5});
  check<float>(s, qkv, 0, {.y = 3e-4, .lse = 1e-5, .dqkv = 3e-4});
}

template <class T>
void check_nan_key() {
  const AttentionCase s{1, 130, 1, 64, 130};
  auto qkv = testing::attention_input(s);
  qkv[100 * 3 * s.dim + s.dim + 3] = std::numeric_limits<double>::quiet_NaN();
  const auto got = run_attention<T>(s, qkv, testing::attention_slope(s));
  for (const T v : got.y) ASSERT_TRUE(std::isnan(static_cast<float>(v)));
  for (const float v : got.lse) ASSERT_TRUE(std::isnan(v));
}
TEST(AttentionCuda, ANotANumberReachesEveryRowThatReadsIt) {
  check_nan_key<float>();
  check_nan_key<bf16>();
}

TEST(AttentionCuda, FewQueriesGiveTheLeadingRows) {
  AttentionCase s{1, 200, 1, 64, 200};
  const auto qkv = testing::attention_input(s);
  const auto all = run_attention<bf16>(s, qkv, testing::attention_slope(s));
  s.queries = 2;
  const auto few = run_attention<bf16>(s, qkv, testing::attention_slope(s));
  for (std::size_t i = 0; i < few.y.size(); ++i) ASSERT_EQ(few.y[i].bits, all.y[i].bits);
}

TEST(AttentionCuda, AnEmptyBatchIsNoWork) {
  run_attention<float>({0, 5, 2, 16, 5}, {}, {});
  run_attention<bf16>({0, 5, 2, 64, 5}, {}, {});
}

TEST(AttentionCuda, BackwardWantsItsWorkspace) {
  const DeviceArray<float> memory(8 * 3);
  EXPECT_THROW(attention_bwd<float>(Cuda{}, {.dy = memory.data(),
                                             .qkv = memory.data(),
                                             .y = memory.data(),
                                             .lse = memory.data(),
                                             .dqkv = memory.data(),
                                             .batch = 1,
                                             .tokens = 1,
                                             .heads = 1,
                                             .head_dim = 8,
                                             .queries = 1,
                                             .scale = 1}),
               Error);
}

}  // namespace
}  // namespace onpa::kernels
