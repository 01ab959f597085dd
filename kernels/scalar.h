// bf16, the GPU's 16-bit storage type: the upper half of a float. No arithmetic: kernels widen it,
// compute in float and round once when they store.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

namespace onpa {

struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  /// Rounds to the nearest value, ties to even. A NaN stays one.
  ONPA_HOST_DEVICE explicit bf16(float value) : bits(round(value)) {}
  ONPA_HOST_DEVICE explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  ONPA_HOST_DEVICE static std::uint16_t round(float value) {
#ifdef __CUDA_ARCH__
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    const auto word = std::bit_cast<std::uint32_t>(value);
    if ((word & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFFu;
    return static_cast<std::uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
#endif
  }
};
static_assert(sizeof(bf16) == 2);

template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBF16;
};

}  // namespace onpa
