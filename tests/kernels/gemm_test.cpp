#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tests/kernels/gemm_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

using Case = testing::GemmCase;

template <class T>
void check(const Case& size, Trans trans_a, Trans trans_b, Activation activation, bool bias,
           bool residual, T beta, std::int64_t row_gap) {
  const auto& [m, n, k] = size;
  const std::int64_t ldc = n + row_gap;
  const std::vector<T> a = normal_values<T>(m * k, 1), b = normal_values<T>(k * n, 2),
                       bias_values = normal_values<T>(n, 3), r = normal_values<T>(m * ldc, 4),
                       before = normal_values<T>(m * ldc, 5);
  std::vector<T> c = before, pre(before.size(), T{7});
  const Gemm<T> g{.trans_a = trans_a,
                  .trans_b = trans_b,
                  .m = m,
                  .n = n,
                  .k = k,
                  .a = a.data(),
                  .lda = trans_a == Trans::kNo ? k : m,
                  .b = b.data(),
                  .ldb = trans_b == Trans::kNo ? n : k,
                  .c = c.data(),
                  .ldc = ldc,
                  .beta = beta,
                  .bias = bias ? bias_values.data() : nullptr,
                  .activation = activation,
                  .pre_activation = pre.data(),
                  .residual = residual ? r.data() : nullptr};
  const std::vector<double> want = testing::gemm_definition(g, before.data(), testing::Exact{});
  gemm<T>(Cpu{}, g);
  // Rounding of k products of normals and a running sum: a few eps times sqrt(k) typical, k worst.
  const double eps = std::is_same_v<T, float> ? 6e-8 : 1.2e-16;
  const double bound = eps * (8 + 4 * static_cast<double>(k));
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      ASSERT_NEAR(c[i * ldc + j], want[i * n + j], bound * (1 + std::abs(want[i * n + j])))
          << m << 'x' << n << 'x' << k << " at " << i << ',' << j;
    }
    for (std::int64_t j = n; j < ldc; ++j) ASSERT_EQ(c[i * ldc + j], before[i * ldc + j]);
  }
}

TEST(Gemm, AgreesWithItsDefinition) {
  for (const Case& size : testing::kGemmCases) {
    for (const Trans ta : {Trans::kNo, Trans::kYes}) {
      for (const Trans tb : {Trans::kNo, Trans::kYes}) {
        for (const Activation act : {Activation::kNone, Activation::kRelu, Activation::kGelu}) {
          check<float>(size, ta, tb, act, true, false, 0.0f, 0);
          check<float>(size, ta, tb, act, false, true, 1.0f, 3);
          check<double>(size, ta, tb, act, true, true, 1.0, 2);
        }
      }
    }
  }
}

TEST(Gemm, ResidualInPlace) {
  const std::vector<float> a = normal_values<float>(6 * 4, 1), b = normal_values<float>(4 * 5, 2);
  std::vector<float> c = normal_values<float>(6 * 5, 3), added = c;
  Gemm<float> g{.m = 6, .n = 5, .k = 4, .a = a.data(), .lda = 4, .b = b.data(), .ldb = 5};
  g.c = c.data();
  g.ldc = 5;
  g.residual = c.data();
  gemm<float>(Cpu{}, g);
  g.c = added.data();
  g.residual = nullptr;
  g.beta = 1;
  gemm<float>(Cpu{}, g);
  EXPECT_EQ(c, added);
}

TEST(Gemm, ResidualInPlaceWantsNoActivation) {
  std::vector<float> one{1}, c{1};
  Gemm<float> g{.m = 1, .n = 1, .k = 1, .a = one.data(), .lda = 1, .b = one.data(), .ldb = 1};
  g.c = c.data();
  g.ldc = 1;
  g.residual = c.data();
  g.activation = Activation::kRelu;
  EXPECT_THROW(gemm<float>(Cpu{}, g), Error);
}

// With beta 0, c is written and not read: what memory held before must not be seen.
template <class T>
void check_ignores_c(const Case& size, Trans trans_a, Trans trans_b) {
  const auto& [m, n, k] = size;
  const std::vector<T> a = normal_values<T>(m * k, 1), b = normal_values<T>(k * n, 2);
  std::vector<T> c(static_cast<std::size_t>(m * n), std::numeric_limits<T>::quiet_NaN());
  gemm<T>(Cpu{}, {.trans_a = trans_a,
                  .trans_b = trans_b,
                  .m = m,
                  .n = n,
                  .k = k,
                  .a = a.data(),
                  .lda = trans_a == Trans::kNo ? k : m,
                  .b = b.data(),
                  .ldb = trans_b == Trans::kNo ? n : k,
                  .c = c.data(),
                  .ldc = n});
  for (const T v : c) ASSERT_TRUE(std::isfinite(v)) << m << 'x' << n << 'x' << k;
}

TEST(Gemm, BetaZeroDoesNotReadC) {
  std::vector<Case> cases(std::begin(testing::kGemmCases), std::end(testing::kGemmCases));
  cases.push_back({600, 700, 300});  // operands packed, k in several blocks
  for (const Case& size : cases) {
    for (const Trans ta : {Trans::kNo, Trans::kYes}) {
      for (const Trans tb : {Trans::kNo, Trans::kYes}) check_ignores_c<float>(size, ta, tb);
    }
  }
  check_ignores_c<double>({33, 31, 64}, Trans::kNo, Trans::kYes);
  check_ignores_c<double>({5, 4, 0}, Trans::kNo, Trans::kNo);
}

TEST(Gemm, SameBitsForAnyNumberOfThreads) {
  // A forward product of large tiles, one of small tiles, and a weight gradient.
  const std::pair<Case, Trans> products[] = {
      {{1434, 800, 96}, Trans::kNo}, {{1792, 64, 67}, Trans::kNo}, {{97, 129, 1434}, Trans::kYes}};
  for (const auto& [size, trans_a] : products) {
    const std::vector<float> a = normal_values<float>(size.m * size.k, 1),
                             b = normal_values<float>(size.k * size.n, 2);
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3, 7}) {
      set_thread_count(threads);
      std::vector<float> c(static_cast<std::size_t>(size.m * size.n));
      gemm<float>(Cpu{}, {.trans_a = trans_a,
                          .m = size.m,
                          .n = size.n,
                          .k = size.k,
                          .a = a.data(),
                          .lda = trans_a == Trans::kNo ? size.k : size.m,
                          .b = b.data(),
                          .ldb = size.n,
                          .c = c.data(),
                          .ldc = size.n,
                          .activation = Activation::kGelu});
      results.push_back(std::move(c));
    }
    for (const std::vector<float>& other : results) EXPECT_EQ(other, results[0]) << size.m;
  }
}

}  // namespace
}  // namespace onpa::kernels
