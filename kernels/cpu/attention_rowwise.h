// Attention one row at a time in plain loops: what double is computed with, where being easy to
// check matters more than speed. Scratch is one row of scores per thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/parallel.h"

namespace onpa::kernels::rowwise {

template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  T sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// y += alpha * x.
template <class T>
void add_scaled(std::int64_t n, T alpha, const T* x, T* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
}

template <class T>
void attention_fwd(const AttentionFwd<T>& a) {
  const std::int64_t width = a.heads * a.head_dim, stride = 3 * width, dim = a.head_dim;
  parallel_for(a.batch * a.heads * a.queries, 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> score(static_cast<std::size_t>(a.tokens));
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t b = row / (a.heads * a.queries);
      const std::int64_t h = row / a.queries % a.heads, i = row % a.queries;
      const T* q = a.qkv + (b * a.tokens + i) * stride + h * dim;
      const T* k = a.qkv + b * a.tokens * stride + width + h * dim;
      const T* v = k + width;
      for (std::int64_t j = 0; j < a.tokens; ++j) {
        score[j] = dot(q, k + j * stride, dim) * static_cast<T>(a.scale);
      }
      const T peak = *std::max_element(score.begin(), score.end());
      T sum = 0;
      for (T& s : score) sum += s = std::exp(s - peak);
      T* y = a.y + (b * a.queries + i) * width + h * dim;
      std::fill_n(y, dim, T{0});
      for (std::int64_t j = 0; j < a.tokens; ++j)
        add_scaled(dim, score[j] / sum, v + j * stride, y);
      a.lse[row] = peak + std::log(sum);
    }
  });
}

// The probability of (query i, key j) and the gradient of its score.
template <class T>
struct Score {
  T p, ds;
};
template <class T>
Score<T> score_gradient(const AttentionBwd<T>& a, std::int64_t b, std::int64_t h, std::int64_t i,
                        std::int64_t j) {
  const std::int64_t dim = a.head_dim, width = a.heads * dim, stride = 3 * width;
  const T* q = a.qkv + (b * a.tokens + i) * stride + h * dim;
  const T* k = a.qkv + (b * a.tokens + j) * stride + width + h * dim;
  const T* dy = a.dy + (b * a.queries + i) * width + h * dim;
  const T* y = a.y + (b * a.queries + i) * width + h * dim;
  const T p =
      std::exp(dot(q, k, dim) * static_cast<T>(a.scale) - a.lse[(b * a.heads + h) * a.queries + i]);
  return {p, p * (dot(dy, k + width, dim) - dot(dy, y, dim)) * static_cast<T>(a.scale)};
}

template <class T>
void attention_bwd(const AttentionBwd<T>& a) {
  const std::int64_t width = a.heads * a.head_dim, stride = 3 * width, dim = a.head_dim;
  parallel_for(a.batch * a.heads * a.tokens, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t b = row / (a.heads * a.tokens);
      const std::int64_t h = row / a.tokens % a.heads, n = row % a.tokens;
      const T* qkv = a.qkv + b * a.tokens * stride + h * dim;
      const T* dy = a.dy + b * a.queries * width + h * dim;
      T* dq = a.dqkv + (b * a.tokens + n) * stride + h * dim;
      T *dk = dq + width, *dv = dk + width;
      for (T* out : {dq, dk, dv}) std::fill_n(out, dim, T{0});
      for (std::int64_t j = 0; n < a.queries && j < a.tokens; ++j) {
        const Score<T> s = score_gradient(a, b, h, n, j);
        add_scaled(dim, s.ds, qkv + j * stride + width, dq);
      }
      for (std::int64_t i = 0; i < a.queries; ++i) {
        const Score<T> s = score_gradient(a, b, h, i, n);
        add_scaled(dim, s.p, dy + i * width, dv);
        add_scaled(dim, s.ds, qkv + i * stride, dk);
      }
    }
  });
}

}  // namespace onpa::kernels::rowwise
