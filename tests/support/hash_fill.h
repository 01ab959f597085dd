// Values from an integer hash, the same bit by bit as in tests/golden/make_passt.py: large weights
// and inputs of golden cases are made anew on both sides instead of being stored.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "nn/module.h"
#include "tensor/tensor.h"

namespace onpa::testing {

/// Value `index` of the sequence `name`, uniform in [-1, 1).
inline float hash_uniform(std::uint32_t name_hash, std::uint32_t index) {
  std::uint32_t x = index * 0x9E3779B9u + name_hash;
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  x ^= x >> 16;
  return static_cast<float>(x >> 8) * 0x1p-23f - 1.0f;
}

/// FNV-1a, 32 bits.
inline std::uint32_t hash_name(const std::string& name) {
  std::uint32_t h = 0x811C9DC5u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x01000193u;
  return h;
}

/// centre + scale * hash_uniform(name, i) in single precision.
inline void hash_fill(const Tensor& x, const std::string& name, float centre, float scale) {
  const std::uint32_t h = hash_name(name);
  std::uint32_t i = 0;
  for (float& value : x.span<float>()) value = centre + scale * hash_uniform(h, i++);
}

inline Tensor hash_tensor(const Shape& shape, const std::string& name, float scale) {
  Tensor out = Tensor::empty(shape);
  hash_fill(out, name, 0, scale);
  return out;
}

/// Fills a parameter of a transformer as the golden scripts do.
inline void hash_fill_parameter(const Tensor& x, const std::string& name) {
  float centre = 0, scale = 0;
  if (name.find("norm") != std::string::npos || name.starts_with("head.0.")) {
    centre = name.ends_with("weight") ? 1 : 0;
    scale = name.ends_with("weight") ? 0.2f : 0.1f;
  } else if (name.ends_with("bias")) {
    scale = 0.1f;
  } else if (name.ends_with("_token") || name.ends_with("_embed")) {
    scale = 0.5f;
  } else {
    const double fan_in = static_cast<double>(x.numel() / x.size(0));
    const double gain = name.find("qkv") != std::string::npos ? 2 : 1;
    scale = static_cast<float>(gain / std::sqrt(fan_in));
  }
  hash_fill(x, name, centre, scale);
}

/// Fills every parameter of a transformer as the golden scripts do.
inline void hash_fill_parameters(const nn::Module& module) {
  for (const nn::NamedParameter& parameter : module.parameters()) {
    hash_fill_parameter(parameter.tensor, parameter.name);
  }
}

}  // namespace onpa::testing
