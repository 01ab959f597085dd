// Parameter initialisation. Every draw belongs to (seed, index of the parameter), so a parameter's
// values depend on neither the order of the calls nor the number of threads.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace onpa::nn {

/// Fills `x` (f32) with normal values of standard deviation `std` redrawn until they lie in
/// [-bound, bound]. Parity: torch.nn.init.trunc_normal_(x, std=std, a=-bound, b=bound).
void fill_trunc_normal(const Tensor& x, double std, double bound, std::uint64_t seed,
                       std::uint64_t index);

/// Fills `x` (f32) with values uniform in [-bound, bound).
void fill_uniform(const Tensor& x, double bound, std::uint64_t seed, std::uint64_t index);

/// Fills `x` (f32) with `value`.
void fill_constant(const Tensor& x, float value);

}  // namespace onpa::nn
