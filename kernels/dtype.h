// Element types. float is what the CPU computes in; double exists so that gradients can be checked
// against central differences; bf16 is the GPU's storage type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace onpa {

enum class DType : std::uint8_t { kF32, kF64, kBF16, kI32, kI64 };

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kBF16:
      return 2;
  }
  return 0;
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::kI64;
};

/// Type of saved statistics (means, log-sum-exp) for element type T: float, or double for double.
template <class T>
using stat_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace onpa
