#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/elementwise_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::RoundedToBf16;
using testing::same_bits;
using testing::seen_as;

// Runs check.operator()<T>(offset) for each type, with aligned and unaligned operands.
template <class Check>
void for_types(const Check& check) {
  for (const int offset : {0, 1}) {
    SCOPED_TRACE(::testing::Message() << "offset " << offset);
    check.template operator()<float>(offset);
    check.template operator()<bf16>(offset);
  }
}

template <class T>
std::vector<double> draw(std::int64_t n, std::uint64_t seed) {
  return seen_as<T>(testing::normal_values<double>(n, seed));
}

// Two products, a sum.
constexpr double kBound = 3e-7;

template <class T>
void check_axpby(int offset) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<double> a = draw<T>(n, 1), b = draw<T>(n, 2);
    std::vector<double> scaled, both, scaled_naive, both_naive;
    const RoundedToBf16 r;
    for (std::size_t i = 0; i < a.size(); ++i) {
      scaled.push_back(2.5 * a[i]);
      scaled_naive.push_back(r(2.5 * a[i]));
      both.push_back(2.5 * a[i] - 3 * b[i]);
      both_naive.push_back(r(r(2.5 * a[i]) - r(3 * b[i])));
    }
    const DeviceArray<T> in_a(cast_to<T>(a), offset), in_b(cast_to<T>(b), offset), y(n, offset);
    axpby<T>(Cuda{}, {in_a.data(), nullptr, y.data(), 2.5f, 0, n});
    testing::expect_near(y.to_host(), scaled, scaled_naive, kBound, 2);
    axpby<T>(Cuda{}, {in_a.data(), in_b.data(), in_b.data(), 2.5f, -3, n});  // in place
    testing::expect_near(in_b.to_host(), both, both_naive, kBound, 2);
  }
}

TEST(CudaElementwise, Axpby) {
  for_types([]<class T>(int offset) { check_axpby<T>(offset); });
}

template <class T>
void check_multiply(int offset) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<double> a = draw<T>(n, 1), b = draw<T>(n, 2);
    std::vector<double> product, sum, product_naive, sum_naive;
    const RoundedToBf16 r;
    for (std::size_t i = 0; i < a.size(); ++i) {
      product.push_back(a[i] * b[i]);
      product_naive.push_back(r(a[i] * b[i]));
      sum.push_back(5 + a[i] * b[i]);
      sum_naive.push_back(r(5 + product_naive.back()));
    }
    const DeviceArray<T> in_a(cast_to<T>(a), offset), in_b(cast_to<T>(b), offset),
        y(std::vector<T>(a.size(), static_cast<T>(5.0f)), offset);
    multiply<T>(Cuda{}, {in_a.data(), in_b.data(), y.data(), GradMode::kAccumulate, n});
    testing::expect_near(y.to_host(), sum, sum_naive, kBound, 3);
    multiply<T>(Cuda{}, {in_a.data(), in_b.data(), in_a.data(), GradMode::kAssign, n});
    testing::expect_near(in_a.to_host(), product, product_naive, kBound, 3);
  }
}

TEST(CudaElementwise, MultiplyAssignsAndAccumulates) {
  for_types([]<class T>(int offset) { check_multiply<T>(offset); });
}

template <class T>
void check_broadcast(int offset) {
  for (const std::int64_t n : kElementCounts) {
    const DeviceArray<T> x(std::vector<T>{static_cast<T>(1.5f)}, offset),
        y(std::vector<T>(static_cast<std::size_t>(n), static_cast<T>(1.0f)), offset);
    for (const auto& [mode, want] :
         {std::pair{GradMode::kAccumulate, 4.0f}, {GradMode::kAssign, 3.0f}}) {
      broadcast_scalar<T>(Cuda{}, {x.data(), y.data(), 2, mode, n});
      for (const T v : y.to_host()) ASSERT_EQ(static_cast<float>(v), want);
    }
  }
}

TEST(CudaElementwise, BroadcastScalar) {
  for_types([]<class T>(int offset) { check_broadcast<T>(offset); });
}

// Rows lie `gap` elements apart, which hold NaN.
template <class T>
void check_column_sum(const ColumnCase& size, std::int64_t gap, int offset) {
  const auto [rows, cols] = size;
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols << " gap " << gap);
  const std::vector<double> values = draw<T>(rows * cols, 1);
  std::vector<double> x(static_cast<std::size_t>(rows * (cols + gap)), NAN);
  for (const GradMode mode : {GradMode::kAssign, GradMode::kAccumulate}) {
    std::vector<double> want(static_cast<std::size_t>(cols),
                             mode == GradMode::kAccumulate ? 1.0 : 0.0);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      x[static_cast<std::size_t>(i / cols * (cols + gap) + i % cols)] = values[i];
      want[static_cast<std::size_t>(i % cols)] += values[i];
    }
    std::vector<double> naive;
    for (const double v : want) naive.push_back(RoundedToBf16{}(v));
    std::optional<std::vector<T>> first;
    testing::for_schedules([&] {
      const DeviceArray<T> in(cast_to<T>(x), offset),
          y(std::vector<T>(want.size(), static_cast<T>(1.0f)), offset);
      ColumnSum<T> args{in.data(), cols + gap, y.data(), mode, rows, cols};
      const DeviceArray<char> workspace(
          static_cast<std::int64_t>(column_sum_workspace_bytes(Cuda{}, args)));
      args.workspace = workspace.data();
      column_sum(Cuda{}, args);
      const std::vector<T> got = y.to_host();
      if (!first) first = got;
      EXPECT_TRUE(same_bits(got, *first)) << "bits depend on the schedule";
    });
    // Sums of up to 1434 terms of about 1 that partly cancel: their roundings, 6e-8 of a sum of up
    // to 100, add up like a random walk.
    testing::expect_near(*first, want, naive, 2e-6, 2, 1);
  }
}

TEST(CudaElementwise, ColumnSum) {
  for_types([]<class T>(int offset) {
    for (const ColumnCase& size : kColumnCases) {
      check_column_sum<T>(size, 8, offset);
      if (offset == 0) check_column_sum<T>(size, 2, offset);
    }
  });
}

template <class T>
void check_sum(int offset) {
  for (const std::int64_t n : kElementCounts) {
    const std::vector<double> x = draw<T>(n, 1);
    double want = 0;
    for (const double v : x) want += v / 2;
    std::optional<std::vector<T>> first;
    testing::for_schedules([&] {
      const DeviceArray<T> in(cast_to<T>(x), offset), y(1, offset);
      Sum<T> args{in.data(), y.data(), 0.5f, n};
      const DeviceArray<char> workspace(
          static_cast<std::int64_t>(sum_workspace_bytes(Cuda{}, args)));
      args.workspace = workspace.data();
      sum(Cuda{}, args);
      const std::vector<T> got = y.to_host();
      if (!first) first = got;
      EXPECT_TRUE(same_bits(got, *first)) << "bits depend on the schedule";
    });
    // All in double: only the last rounding shows.
    testing::expect_near(*first, {want}, {RoundedToBf16{}(want)}, 1e-7, 2);
  }
}

TEST(CudaElementwise, Sum) {
  for_types([]<class T>(int offset) { check_sum<T>(offset); });
}

}  // namespace
}  // namespace onpa::kernels
