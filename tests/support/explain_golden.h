// The model of tests/golden/make_explain.py, and how far two results are apart.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "nn/passt.h"
#include "tensor/tensor.h"

namespace onpa::testing {

inline nn::PasstConfig explain_config() {
  nn::PasstConfig config;
  config.mels = 32;
  config.patch_f = config.patch_t = 8;
  config.stride_f = config.stride_t = 6;
  config.table_t = 10;
  config.width = 32;
  config.heads = 4;
  config.depth = 3;
  config.mlp = 128;
  config.outputs = 5;
  return config;
}

/// Infinite if the shapes differ or a value is not finite.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape(), b.shape());
  if (a.shape() != b.shape()) return INFINITY;
  double out = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double difference =
        std::abs(static_cast<double>(a.data<float>()[i] - b.data<float>()[i]));
    out = std::isfinite(difference) ? std::max(out, difference) : INFINITY;
  }
  return out;
}

}  // namespace onpa::testing
