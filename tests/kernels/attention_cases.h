// Shapes, inputs and reference of attention's tests, for every backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::testing {

struct AttentionCase {
  std::int64_t batch, tokens, heads, dim, queries;
  std::int64_t width() const { return heads * dim; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(dim)); }
  friend std::ostream& operator<<(std::ostream& out, const AttentionCase& s) {
    return out << "batch " << s.batch << " tokens " << s.tokens << " heads " << s.heads << " dim "
               << s.dim << " queries " << s.queries;
  }
};

// One token, a prime, below and over the blocks of queries and keys with odd tails, head widths
// that are no multiple of a vector or above a block of columns, and few queries for many keys.
const AttentionCase kAttentionCases[] = {
    {1, 1, 1, 1, 1},     {2, 1, 3, 16, 1},     {1, 2, 2, 64, 2},   {1, 7, 1, 8, 7},
    {2, 13, 3, 5, 13},   {1, 31, 2, 16, 2},    {1, 97, 2, 64, 97}, {1, 96, 1, 64, 96},
    {2, 101, 2, 24, 60}, {1, 193, 1, 72, 193}, {1, 70, 1, 130, 67}};
// A head width of 64 around tiles of 64 rows and blocks of 128: at least three tiles, so that a
// buffer is filled again, and tails of a few, of under and of over a quarter of a tile.
const AttentionCase kAttentionTileCases[] = {
    {1, 1, 1, 64, 1},   {1, 7, 3, 64, 7},     {2, 63, 1, 64, 63},   {1, 64, 3, 64, 64},
    {1, 65, 1, 64, 65}, {2, 130, 1, 64, 130}, {1, 200, 3, 64, 200}, {1, 230, 1, 64, 230},
    {1, 72, 1, 64, 5},  {2, 200, 1, 64, 65},  {1, 200, 1, 64, 129}, {1, 256, 1, 64, 2}};

inline std::vector<double> attention_input(const AttentionCase& s) {
  return normal_values<double>(s.batch * s.tokens * 3 * s.width(), 5);
}
inline std::vector<double> attention_slope(const AttentionCase& s) {
  return normal_values<double>(s.batch * s.queries * s.width(), 7);
}

// Scores far below 0, of which exp without a maximum taken off would be 0, and exp of minus the
// log-sum-exp infinite.
inline std::vector<double> attention_input_of_low_scores(const AttentionCase& s) {
  const double size = std::sqrt(150 / std::sqrt(static_cast<double>(s.dim)));
  std::vector<double> qkv = attention_input(s);
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    const auto part = static_cast<std::int64_t>(i) / s.width() % 3;
    if (part != 2) qkv[i] = static_cast<float>((part == 0 ? size : -size) + 0.1 * qkv[i]);
  }
  return qkv;
}

struct AttentionReference {
  std::vector<double> y, lse, dqkv;
};

/// Attention and its gradients with every score written out, in double. Whatever a plain program
/// would store passes through `stored`.
template <class Stored>
AttentionReference reference_attention(const AttentionCase& s, const std::vector<double>& qkv,
                                       const std::vector<double>& dy, Stored stored) {
  const std::int64_t width = s.width(), stride = 3 * width, dim = s.dim;
  const auto scale = static_cast<double>(s.scale());
  const auto dot = [dim](const double* a, const double* b) {
    double sum = 0;
    for (std::int64_t c = 0; c < dim; ++c) sum += a[c] * b[c];
    return sum;
  };
  const auto add = [dim](double weight, const double* from, double* to) {
    for (std::int64_t c = 0; c < dim; ++c) to[c] += weight * from[c];
  };
  AttentionReference out{std::vector<double>(dy.size()), {}, std::vector<double>(qkv.size())};
  std::vector<double> p(static_cast<std::size_t>(s.tokens)), slope(p.size());
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t head = b * s.tokens * stride + h * dim;
      const double *k = qkv.data() + head + width, *v = k + width;
      double *dk = out.dqkv.data() + head + width, *dv = dk + width;
      for (std::int64_t i = 0; i < s.queries; ++i) {
        const std::int64_t at = (b * s.queries + i) * width + h * dim;
        const double* q = qkv.data() + head + i * stride;
        for (std::int64_t j = 0; j < s.tokens; ++j) p[j] = stored(scale * dot(q, k + j * stride));
        const double peak = *std::max_element(p.begin(), p.end());
        double total = 0;
        for (const double score : p) total += std::exp(score - peak);
        out.lse.push_back(peak + std::log(total));
        double mean_slope = 0;
        for (std::int64_t j = 0; j < s.tokens; ++j) {
          p[j] = stored(std::exp(p[j] - peak) / total);
          slope[j] = stored(dot(dy.data() + at, v + j * stride));
          mean_slope += p[j] * slope[j];
        }
        for (std::int64_t j = 0; j < s.tokens; ++j) {
          const double ds = stored(p[j] * (slope[j] - mean_slope)) * scale;
          add(p[j], v + j * stride, out.y.data() + at);
          add(p[j], dy.data() + at, dv + j * stride);
          add(ds, q, dk + j * stride);
          add(ds, k + j * stride, out.dqkv.data() + head + i * stride);
        }
      }
    }
  }
  for (double& value : out.y) value = stored(value);
  for (double& value : out.dqkv) value = stored(value);
  return out;
}

}  // namespace onpa::testing
