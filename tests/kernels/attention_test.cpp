#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/attention_cases.h"

namespace onpa::kernels {
namespace {

using testing::attention_input;
using testing::kAttentionCases;
using testing::kAttentionTileCases;
using testing::normal_values;
using Case = testing::AttentionCase;

template <class T>
std::vector<T> as(const std::vector<double>& v) {
  return {v.begin(), v.end()};
}

template <class T>
struct Result {
  std::vector<T> y, lse, dqkv;
};

constexpr float kGuard = 12345.0f;
constexpr std::size_t kGuardCount = 32;

// Outputs are followed by guard values, which must survive.
template <class T>
std::vector<T> guarded(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n) + kGuardCount, kGuard);
}
template <class T>
void check_guard(std::vector<T>& v) {
  for (std::size_t i = v.size() - kGuardCount; i < v.size(); ++i) ASSERT_EQ(v[i], kGuard);
  v.resize(v.size() - kGuardCount);
}

template <class T>
Result<T> run(const Case& s, const std::vector<double>& values, double dy_scale = 1) {
  const auto qkv = as<T>(values);
  const auto dy = normal_values<T>(s.batch * s.queries * s.width(), 7, dy_scale);
  const float scale = s.scale();
  Result<T> out{guarded<T>(s.batch * s.queries * s.width()),
                guarded<T>(s.batch * s.heads * s.queries),
                guarded<T>(s.batch * s.tokens * 3 * s.width())};
  attention_fwd<T>(Cpu{}, {.qkv = qkv.data(),
                           .y = out.y.data(),
                           .lse = out.lse.data(),
                           .batch = s.batch,
                           .tokens = s.tokens,
                           .heads = s.heads,
                           .head_dim = s.dim,
                           .queries = s.queries,
                           .scale = scale});
  attention_bwd<T>(Cpu{}, {.dy = dy.data(),
                           .qkv = qkv.data(),
                           .y = out.y.data(),
                           .lse = out.lse.data(),
                           .dqkv = out.dqkv.data(),
                           .batch = s.batch,
                           .tokens = s.tokens,
                           .heads = s.heads,
                           .head_dim = s.dim,
                           .queries = s.queries,
                           .scale = scale});
  for (std::vector<T>* v : {&out.y, &out.lse, &out.dqkv}) check_guard(*v);
  return out;
}
template <class T>
Result<T> run(const Case& s) {
  return run<T>(s, attention_input(s));
}

template <class A, class B>
double worst(const std::vector<A>& a, const std::vector<B>& b) {
  double difference = 0, size = 1e-3;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    difference =
        std::isfinite(d) ? std::max(difference, d) : std::numeric_limits<double>::infinity();
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return difference / size;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases(std::begin(kAttentionCases), std::end(kAttentionCases));
  cases.insert(cases.end(), std::begin(kAttentionTileCases), std::end(kAttentionTileCases));
  cases.push_back({1, 450, 2, 16, 450});
  cases.push_back({1, 450, 1, 64, 2});
  return cases;
}

TEST(AttentionKernel, DoubleMatchesTheScoresWrittenOut) {
  for (const Case& s : all_cases()) {
    const auto qkv = attention_input(s);
    const auto want =
        testing::reference_attention(s, qkv, testing::attention_slope(s), testing::Exact{});
    const Result<double> got = run<double>(s, qkv);
    EXPECT_LT(worst(got.y, want.y), 1e-12) << s;
    EXPECT_LT(worst(got.lse, want.lse), 1e-12) << s;
    EXPECT_LT(worst(got.dqkv, want.dqkv), 1e-12) << s;
  }
}

// A score is a sum of `dim` products (error about sqrt(dim) * 6e-8 times its size, here a few
// units), which exp turns into a relative error of the probability; 3e-6 leaves a factor of three.
TEST(AttentionKernel, FloatIsNearDouble) {
  for (const Case& s : all_cases()) {
    const Result<float> got = run<float>(s);
    const Result<double> want = run<double>(s);
    EXPECT_LT(worst(got.y, want.y), 3e-6) << s;
    EXPECT_LT(worst(got.lse, want.lse), 3e-6) << s;
    EXPECT_LT(worst(got.dqkv, want.dqkv), 6e-6) << s;
  }
}

// Scores in the hundreds: exp overflows unless the row's peak is taken off, also when the peak
// moves between key blocks. Errors grow with the size of the scores (300 * 6e-8).
TEST(AttentionKernel, LargeScoresStayFinite) {
  const Case s{1, 301, 2, 16, 301};
  auto qkv = normal_values<double>(s.tokens * 3 * s.width(), 5, 1);
  for (std::int64_t n = 0; n < s.tokens; ++n) {
    for (std::int64_t c = 0; c < s.width(); ++c) {
      qkv[n * 3 * s.width() + c] *= 12;                                                   // q
      qkv[n * 3 * s.width() + s.width() + c] *= 1 + 12.0 * static_cast<double>(n) / 301;  // k
    }
  }
  const Result<float> got = run<float>(s, qkv);
  const Result<double> want = run<double>(s, qkv);
  ASSERT_GT(*std::max_element(want.lse.begin(), want.lse.end()), 200);
  EXPECT_LT(worst(got.y, want.y), 3e-4);
  EXPECT_LT(worst(got.lse, want.lse), 1e-6);
  EXPECT_LT(worst(got.dqkv, want.dqkv), 3e-4);
}

TEST(AttentionKernel, LowScoresStayFinite) {
  const Case s{1, 70, 1, 64, 70};
  const auto qkv = testing::attention_input_of_low_scores(s);
  const Result<float> got = run<float>(s, qkv);
  const Result<double> want = run<double>(s, qkv);
  ASSERT_LT(*std::max_element(want.lse.begin(), want.lse.end()), -100);
  EXPECT_LT(worst(got.y, want.y), 1e-4);  // 150 * 6e-8, summed over 64 columns
  EXPECT_LT(worst(got.dqkv, want.dqkv), 1e-4);
}

TEST(AttentionKernel, ANotANumberReachesEveryRowThatReadsIt) {
  const Case s{1, 130, 1, 16, 130};
  auto qkv = normal_values<double>(s.tokens * 3 * s.width(), 5);
  qkv[100 * 3 * s.width() + s.width() + 3] = std::numeric_limits<double>::quiet_NaN();  // k of 100
  const auto values = as<float>(qkv);
  std::vector<float> y(static_cast<std::size_t>(s.tokens * s.width())), lse(130);
  attention_fwd<float>(Cpu{}, {.qkv = values.data(),
                               .y = y.data(),
                               .lse = lse.data(),
                               .batch = 1,
                               .tokens = s.tokens,
                               .heads = 1,
                               .head_dim = s.dim,
                               .queries = s.queries,
                               .scale = 0.25f});
  for (const float v : y) ASSERT_TRUE(std::isnan(v));
}

TEST(AttentionKernel, OrderOfKeysDoesNotMatter) {
  const Case s{1, 150, 2, 16, 2};
  const auto qkv = normal_values<double>(s.tokens * 3 * s.width(), 5);
  auto turned = qkv;  // the two queries stay, all other tokens go backwards
  const std::int64_t stride = 3 * s.width();
  for (std::int64_t n = 2; n < s.tokens; ++n) {
    std::copy_n(qkv.begin() + n * stride, stride, turned.begin() + (s.tokens + 1 - n) * stride);
  }
  EXPECT_LT(worst(run<float>(s, turned).y, run<float>(s, qkv).y), 3e-6);
  EXPECT_LT(worst(run<double>(s, turned).y, run<double>(s, qkv).y), 1e-13);
}

TEST(AttentionKernel, TokensThatDoNotAskGetNoQueryGradient) {
  const Case s{2, 40, 2, 16, 2};
  const Result<float> got = run<float>(s);
  double asked = 0;
  for (std::int64_t row = 0; row < s.batch * s.tokens; ++row) {
    for (std::int64_t c = 0; c < s.width(); ++c) {
      const float dq = got.dqkv[row * 3 * s.width() + c];
      if (row % s.tokens >= s.queries) {
        ASSERT_EQ(dq, 0.0f);
      }
      asked += std::abs(dq);
    }
  }
  EXPECT_GT(asked, 0);
}

// The leading queries must get the same answer whether or not the others ask too.
TEST(AttentionKernel, FewQueriesGiveTheLeadingRows) {
  Case s{1, 200, 2, 64, 200};
  const auto qkv = normal_values<double>(s.tokens * 3 * s.width(), 5);
  const Result<float> all = run<float>(s, qkv);
  s.queries = 2;
  const Result<float> few = run<float>(s, qkv);
  EXPECT_TRUE(std::equal(few.y.begin(), few.y.end(), all.y.begin()));
}

TEST(AttentionKernel, BitsDoNotDependOnThreads) {
  const int before = thread_count();
  for (const Case& s :
       {Case{1, 500, 2, 16, 500}, Case{2, 131, 3, 64, 131}, Case{1, 700, 1, 8, 2}}) {
    set_thread_count(1);
    const Result<float> one = run<float>(s);
    for (const int threads : {2, 3, 8}) {
      set_thread_count(threads);
      const Result<float> many = run<float>(s);
      EXPECT_EQ(one.y, many.y) << s;
      EXPECT_EQ(one.lse, many.lse) << s;
      EXPECT_EQ(one.dqkv, many.dqkv) << s;
    }
  }
  set_thread_count(before);
}

// Peak resident memory of the process in KiB since the last reset, from Linux.
std::int64_t peak_kib(bool reset) {
  if (reset) std::ofstream("/proc/self/clear_refs") << 5;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib;
  }
  return -1;
}

// One N x N matrix of floats would be 64 MiB here; all arguments are 1.4 MiB.
TEST(AttentionKernel, NoSquareMatrixIsEverHeld) {
  const Case s{1, 4096, 1, 16, 4096};
  const auto qkv = normal_values<double>(s.tokens * 3 * s.width(), 5);
  const std::int64_t before = peak_kib(true);
  if (before < 0) GTEST_SKIP() << "no /proc/self/status";
  run<float>(s, qkv);
  EXPECT_LT(peak_kib(false) - before, 24 * 1024);
}

}  // namespace
}  // namespace onpa::kernels
