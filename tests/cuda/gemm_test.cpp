#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/error.h"
#include "kernels/gemm_tuning.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/gemm_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;

struct Options {
  Trans trans_a, trans_b;
  Activation activation;
  bool bias, residual, pre_activation;
  float beta;
  std::int64_t row_gap, offset;  // elements between rows of c; before each first element
};

template <class T>
std::vector<T> values(std::int64_t n, std::uint64_t seed) {
  return testing::cast_to<T>(testing::normal_values<double>(n, seed));
}

template <class T>
void check(const testing::GemmCase& size, const Options& o) {
  const auto& [m, n, k] = size;
  const std::int64_t ldc = n + o.row_gap;
  // c (+ gaps) starts as NaN where beta is 0: nothing of it may come through.
  const std::vector<T> a = values<T>(m * k, 1), b = values<T>(k * n, 2), bias = values<T>(n, 3),
                       residual = values<T>(m * ldc, 4),
                       before = o.beta == 0 ? std::vector<T>(static_cast<std::size_t>(m * ldc),
                                                             static_cast<T>(std::nanf("")))
                                            : values<T>(m * ldc, 5);
  Gemm<T> g{.trans_a = o.trans_a,
            .trans_b = o.trans_b,
            .m = m,
            .n = n,
            .k = k,
            .a = a.data(),
            .lda = o.trans_a == Trans::kNo ? k : m,
            .b = b.data(),
            .ldb = o.trans_b == Trans::kNo ? n : k,
            .ldc = ldc,
            .beta = o.beta,
            .bias = o.bias ? bias.data() : nullptr,
            .activation = o.activation,
            .residual = o.residual ? residual.data() : nullptr};
  const std::vector<double> want = testing::gemm_definition(g, before.data(), testing::Exact{});
  const std::vector<double> naive =
      testing::gemm_definition(g, before.data(), testing::RoundedToBf16{});

  const DeviceArray<T> da(a, o.offset), db(b, o.offset), dbias(bias, o.offset),
      dresidual(residual, o.offset), dc(before, o.offset), dpre(m * ldc, o.offset);
  g.a = da.data();
  g.b = db.data();
  g.c = dc.data();
  if (o.bias) g.bias = dbias.data();
  if (o.residual) g.residual = dresidual.data();
  if (o.pre_activation) g.pre_activation = dpre.data();
  gemm<T>(Cuda{}, g);

  const std::vector<T> c = dc.to_host(), pre = dpre.to_host();
  std::vector<T> got;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) got.push_back(c[static_cast<std::size_t>(i * ldc + j)]);
    for (std::int64_t j = n; j < ldc; ++j) {
      const auto at = static_cast<std::size_t>(i * ldc + j);
      ASSERT_EQ(std::memcmp(&c[at], &before[at], sizeof(T)), 0) << "gap of row " << i;
    }
  }
  // float: k products summed in any order.
  testing::expect_near(got, want, naive, 1e-6 * (2 + static_cast<double>(k)), 2);
  if (!o.pre_activation) return;
  g.a = a.data();
  g.b = b.data();
  g.bias = o.bias ? bias.data() : nullptr;
  g.activation = Activation::kNone;
  g.residual = nullptr;
  std::vector<T> got_pre;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      got_pre.push_back(pre[static_cast<std::size_t>(i * ldc + j)]);
    }
  }
  testing::expect_near(got_pre, testing::gemm_definition(g, before.data(), testing::Exact{}),
                       testing::gemm_definition(g, before.data(), testing::RoundedToBf16{}),
                       1e-6 * (2 + static_cast<double>(k)), 2);
}

template <class T>
class GemmCuda : public ::testing::Test {};
using Types = ::testing::Types<float, bf16>;
TYPED_TEST_SUITE(GemmCuda, Types);

TYPED_TEST(GemmCuda, AgreesWithItsDefinition) {
  for (const testing::GemmCase& size : testing::kGemmCases) {
    SCOPED_TRACE(::testing::Message() << size.m << 'x' << size.n << 'x' << size.k);
    for (const Trans ta : {Trans::kNo, Trans::kYes}) {
      for (const Trans tb : {Trans::kNo, Trans::kYes}) {
        check<TypeParam>(size, {ta, tb, Activation::kNone, false, false, false, 0, 0, 0});
      }
    }
    const Trans no = Trans::kNo, yes = Trans::kYes;
    check<TypeParam>(size, {yes, no, Activation::kNone, false, false, false, 1, 5, 1});
    check<TypeParam>(size, {no, yes, Activation::kNone, true, true, false, 0, 8, 0});
    check<TypeParam>(size, {no, yes, Activation::kNone, true, true, false, 1, 0, 0});
    check<TypeParam>(size, {no, yes, Activation::kNone, true, false, true, 0, 0, 0});
    check<TypeParam>(size, {no, yes, Activation::kGelu, true, true, true, 1, 3, 0});
  }
}

// Whatever is chosen, and while it is being chosen.
TYPED_TEST(GemmCuda, AgreesWithItsDefinitionWhenTimed) {
  set_gemm_tuning(true);
  const Trans no = Trans::kNo, yes = Trans::kYes;
  for (const testing::GemmCase& size : {testing::GemmCase{1, 5, 3}, {13, 17, 19}, {193, 769, 40}}) {
    SCOPED_TRACE(::testing::Message() << size.m << 'x' << size.n << 'x' << size.k);
    for (int run = 0; run < 2; ++run) {
      check<TypeParam>(size, {yes, no, Activation::kNone, false, false, false, 1, 5, 1});
      check<TypeParam>(size, {no, yes, Activation::kNone, true, true, false, 0, 8, 0});
      check<TypeParam>(size, {no, yes, Activation::kGelu, true, false, false, 0, 0, 0});
      check<TypeParam>(size, {no, yes, Activation::kGelu, true, true, true, 0, 3, 0});
      check<TypeParam>(size, {no, yes, Activation::kGelu, true, true, true, 1, 3, 0});
    }
  }
  set_gemm_tuning(false);
}

TYPED_TEST(GemmCuda, EpiloguesUnderEverySchedule) {
  testing::for_schedules([] {
    for (const testing::GemmCase& size : {testing::GemmCase{3, 37, 5}, {2, 2304, 3}}) {
      for (const Activation act : {Activation::kRelu, Activation::kGelu}) {
        for (const bool residual : {false, true}) {
          check<TypeParam>(size, {Trans::kNo, Trans::kYes, act, true, residual, true, 0, 0, 0});
          check<TypeParam>(size, {Trans::kNo, Trans::kYes, act, false, residual, false, 0, 3, 1});
        }
      }
    }
  });
}

TYPED_TEST(GemmCuda, ResidualInPlace) {
  const auto a = values<TypeParam>(6 * 4, 1), b = values<TypeParam>(4 * 5, 2),
             c = values<TypeParam>(6 * 5, 3);
  const DeviceArray<TypeParam> da(a), db(b), in_place(c), added(c);
  Gemm<TypeParam> g{.m = 6, .n = 5, .k = 4, .a = da.data(), .lda = 4, .b = db.data(), .ldb = 5};
  g.ldc = 5;
  g.c = in_place.data();
  g.residual = in_place.data();
  gemm<TypeParam>(Cuda{}, g);
  g.c = added.data();
  g.residual = nullptr;
  g.beta = 1;
  gemm<TypeParam>(Cuda{}, g);
  const auto x = in_place.to_host(), y = added.to_host();
  EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(TypeParam)), 0);
  g.residual = added.data();
  EXPECT_THROW(gemm<TypeParam>(Cuda{}, g), Error);
}

}  // namespace
}  // namespace onpa::kernels
