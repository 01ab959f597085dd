// A random order of 0 .. n - 1 of which any element is computed alone: kernels need no shuffled
// index in memory, and host and device agree.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/philox.h"

namespace onpa {

/// The order of one epoch.
class ShuffledOrder {
 public:
  static constexpr int kRounds = 8;

  /// 1 <= n < 2^32.
  ONPA_HOST_DEVICE ShuffledOrder(std::uint64_t seed, std::uint64_t epoch, std::uint32_t n) : n_(n) {
    // Sample 0 of the stream is data::epoch_order's.
    const RngKey key = {seed, kStreamShuffle, epoch, 1};
    philox_block(key, 0, round_keys_);
    philox_block(key, 1, round_keys_ + 4);
    int bits = 0;
    while ((std::uint64_t{1} << bits) < n) ++bits;
    right_bits_ = bits / 2;
    left_mask_ = (1u << (bits - right_bits_)) - 1;
    right_mask_ = (1u << right_bits_) - 1;
  }

  /// The element at `position` < n. A Feistel network permutes the numbers of as many bits as n
  /// needs; those that are too large are sent through again until one fits (fewer than two passes
  /// on average).
  ONPA_HOST_DEVICE std::uint32_t operator()(std::uint32_t position) const {
    std::uint32_t value = position;
    do {
      std::uint32_t left = value >> right_bits_, right = value & right_mask_;
      for (int round = 0; round < kRounds; round += 2) {
        left ^= scramble(right + round_keys_[round]) & left_mask_;
        right ^= scramble(left + round_keys_[round + 1]) & right_mask_;
      }
      value = (left << right_bits_) | right;
    } while (value >= n_);
    return value;
  }

  /// The parts of operator(), for code that finds many elements at once.
  std::uint32_t round_key(int round) const { return round_keys_[round]; }
  std::uint32_t left_mask() const { return left_mask_; }
  std::uint32_t right_mask() const { return right_mask_; }
  int right_bits() const { return right_bits_; }

 private:
  // An invertible mix in which each bit of the input reaches all of the output. Source: finalizer
  // of Appleby's MurmurHash3.
  ONPA_HOST_DEVICE static std::uint32_t scramble(std::uint32_t v) {
    v = (v ^ (v >> 16)) * 0x85EBCA6Bu;
    v = (v ^ (v >> 13)) * 0xC2B2AE35u;
    return v ^ (v >> 16);
  }

  std::uint32_t n_, round_keys_[kRounds], left_mask_, right_mask_;
  int right_bits_;
};

}  // namespace onpa
