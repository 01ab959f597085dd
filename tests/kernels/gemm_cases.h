// Shapes of matrix products and their definition, for the tests of every backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/gemm.h"

namespace onpa::testing {

struct GemmCase {
  std::int64_t m, n, k;
};
// 1, primes, below a vector, several tiles with odd ones at the edge (also in one direction only),
// many columns, k = 0, empty.
inline constexpr GemmCase kGemmCases[] = {
    {1, 1, 1},      {1, 5, 3},      {3, 1, 7},     {13, 17, 19},   {33, 31, 64},
    {200, 100, 5},  {193, 769, 40}, {1, 1000, 10}, {2111, 13, 41}, {5, 4, 0},
    {3, 20011, 11}, {0, 4, 3},      {4, 0, 3}};

/// The product as its contract says, in double, from host memory: (m, n) without gaps. `round` is
/// applied to whatever a program that works in steps would store: the sum, the argument of the
/// activation, its value, the result.
template <class T, class Round>
std::vector<double> gemm_definition(const kernels::Gemm<T>& g, const T* c_before, Round round) {
  using kernels::Activation;
  using kernels::Trans;
  const auto value = [](const T& v) {
    if constexpr (sizeof(T) == 2) {
      return static_cast<double>(static_cast<float>(v));
    } else {
      return static_cast<double>(v);
    }
  };
  std::vector<double> out(static_cast<std::size_t>(g.m * g.n));
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < g.k; ++p) {
        sum += value(g.trans_a == Trans::kNo ? g.a[i * g.lda + p] : g.a[p * g.lda + i]) *
               value(g.trans_b == Trans::kNo ? g.b[p * g.ldb + j] : g.b[j * g.ldb + p]);
      }
      sum = round(sum);
      if (g.beta != 0) sum = round(sum + g.beta * value(c_before[i * g.ldc + j]));
      if (g.bias != nullptr) sum = round(sum + value(g.bias[j]));
      if (g.activation == Activation::kRelu) sum = std::max(sum, 0.0);
      if (g.activation == Activation::kGelu) {
        sum = round(sum * 0.5 * std::erfc(-sum * std::sqrt(0.5)));
      }
      if (g.residual != nullptr) sum = round(sum + value(g.residual[i * g.ldc + j]));
      out[static_cast<std::size_t>(i * g.n + j)] = sum;
    }
  }
  return out;
}

}  // namespace onpa::testing
