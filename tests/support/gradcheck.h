// Gradient checks against central differences in double, and helpers to fill tensors.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/philox.h"
#include "tensor/autograd.h"
#include "tensor/ops/math.h"
#include "tensor/tensor.h"

namespace onpa::testing {

/// Standard normal values times `scale`, the same for the same `seed` in f32 and f64.
inline Tensor random_normal(const Shape& shape, std::uint64_t seed, double scale = 1.0,
                            DType dtype = DType::kF64) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  Tensor out = Tensor::empty(shape, DType::kF64);
  for (double& v : out.span<double>()) v = static_cast<float>(scale * rng.normal());
  return dtype == DType::kF64 ? out : out.to(dtype);
}

/// Checks the gradient of every input of `f` against central differences in double: the relative
/// error ||analytic - numeric|| / max(||numeric||, floor) of each input must be under `bound`. The
/// output of f is contracted with fixed random weights to make a scalar, so f may return any shape.
/// Inputs must be f64. Each is checked in full. A second backward pass without clearing must double
/// the gradient, which exercises the accumulating mode.
inline void check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                            std::vector<Tensor> inputs, double bound = 1e-5, double step = 1e-5) {
  for (Tensor& input : inputs) {
    ASSERT_EQ(input.dtype(), DType::kF64);
    input.set_requires_grad();
  }
  Tensor weights;
  const auto scalar = [&] {
    const Tensor y = f(inputs);
    if (!weights.defined()) weights = random_normal(y.shape(), 991);
    return ops::sum(ops::mul(y, weights));
  };
  backward(scalar());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_TRUE(inputs[i].grad().defined()) << "input " << i << " got no gradient";
    const std::vector<double> analytic = inputs[i].grad().to_vector<double>();
    double difference = 0, norm = 0;
    const std::span<double> values = inputs[i].span<double>();
    for (std::size_t j = 0; j < values.size(); ++j) {
      NoGrad no_grad;
      const double original = values[j];
      values[j] = original + step;
      const double up = scalar().item();
      values[j] = original - step;
      const double down = scalar().item();
      values[j] = original;
      const double numeric = (up - down) / (2 * step);
      difference += (numeric - analytic[j]) * (numeric - analytic[j]);
      norm += numeric * numeric;
    }
    EXPECT_LT(std::sqrt(difference), bound * std::max(std::sqrt(norm), 1e-3))
        << "input " << i << " of shape " << inputs[i].shape();
  }
  std::vector<std::vector<double>> once;
  for (const Tensor& input : inputs) once.push_back(input.grad().to_vector<double>());
  backward(scalar());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<double> twice = inputs[i].grad().to_vector<double>();
    for (std::size_t j = 0; j < twice.size(); ++j) {
      ASSERT_NEAR(twice[j], 2 * once[i][j], 1e-9 * (1 + std::abs(once[i][j])))
          << "accumulating gradient of input " << i << " at " << j;
    }
  }
}

/// Largest |a - b| over all elements, and the largest |b|, both in double.
struct Difference {
  double max_abs = 0;
  double reference = 0;
  double relative() const { return max_abs / std::max(reference, 1e-30); }
};
inline Difference difference(const Tensor& a, const Tensor& reference) {
  EXPECT_EQ(a.shape(), reference.shape());
  const std::vector<double> x = a.to(DType::kF64).to_vector<double>();
  const std::vector<double> y = reference.to(DType::kF64).to_vector<double>();
  Difference out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    out.max_abs = std::max(out.max_abs, std::isfinite(x[i]) ? std::abs(x[i] - y[i]) : INFINITY);
    out.reference = std::max(out.reference, std::abs(y[i]));
  }
  return out;
}

}  // namespace onpa::testing
