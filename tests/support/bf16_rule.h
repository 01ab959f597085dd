// How far a bf16 kernel may be from the truth: as far as a plain bf16 program, times two or three.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/scalar.h"

namespace onpa::testing {

/// Rounding of stored intermediates, for references that are written once and run twice: the truth
/// with Exact, a plain bf16 program with RoundedToBf16.
struct Exact {
  double operator()(double v) const { return v; }
};
struct RoundedToBf16 {
  double operator()(double v) const { return static_cast<float>(bf16(static_cast<float>(v))); }
};

/// `values` as T and back: what a kernel on T sees of them.
template <class T>
std::vector<double> seen_as(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double v : values) {
    out.push_back(static_cast<double>(static_cast<float>(static_cast<T>(static_cast<float>(v)))));
  }
  return out;
}
template <class T>
std::vector<T> cast_to(const std::vector<double>& values) {
  std::vector<T> out;
  for (const double v : values) out.push_back(static_cast<T>(static_cast<float>(v)));
  return out;
}

/// Largest |a - b|; infinite where exactly one of the two is NaN, or they are different infinities.
template <class T>
double largest_error(const std::vector<T>& got, const std::vector<double>& want) {
  EXPECT_EQ(got.size(), want.size());
  double error = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double g = static_cast<double>(static_cast<float>(got[i]));
    if (std::isnan(g) && std::isnan(want[i])) continue;
    if (g == want[i]) continue;
    const double difference = std::abs(g - want[i]);
    error = std::max(error, std::isfinite(difference) ? difference : INFINITY);
  }
  return error;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

inline double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double v : values) {
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  }
  return largest;
}

/// Keeps the largest relative error of the running test in its report, as `name`.
inline void record_error(const char* name, double relative_error) {
  static std::map<std::string, double> largest;
  const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
  if (test == nullptr) return;
  double& kept = largest[std::string(test->test_suite_name()) + "." + test->name() + "." + name];
  kept = std::max(kept, relative_error);
  std::ostringstream text;
  text << kept;
  ::testing::Test::RecordProperty(name, text.str());
}

/// Checks `got` against the float64 result `want`. float: the largest error is at most `f32_bound`
/// times the largest value. bf16: it is at most `factor` times that of `naive`, a bf16 program that
/// rounds whatever it stores, or the last rounding alone where `naive` happens to be exact. Where
/// values can be small beside what they are computed from, `least_size` stands in for the largest.
template <class T>
void expect_near(const std::vector<T>& got, const std::vector<double>& want,
                 const std::vector<double>& naive, double f32_bound, double factor,
                 double least_size = 0) {
  const double size = std::max(least_size, largest_of(want));
  double bound = f32_bound * size;
  if constexpr (std::is_same_v<T, bf16>) {
    constexpr double kHalfUlp = 0x1p-8;
    bound = std::max(factor * largest_error(naive, want), kHalfUlp * size);
  }
  const double error = largest_error(got, want);
  if (size > 0) record_error(std::is_same_v<T, bf16> ? "error_bf16" : "error_f32", error / size);
  EXPECT_LE(error, bound) << "largest value " << size;
}

}  // namespace onpa::testing
