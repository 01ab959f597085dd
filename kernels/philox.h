// Philox4x32-10, a counter-based random generator: a draw is a pure function of its key and
// counter, so it is the same on CPU and GPU and for any number of workers or ranks. Source: Salmon
// et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/device.h"

namespace onpa {

/// What a random draw depends on: the run's seed, what the draw is for, the step and the sample.
struct RngKey {
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  // one of RngStream
  std::uint64_t step = 0;    // < 2^32
  std::uint64_t sample = 0;  // < 2^32
};

/// Streams keep unrelated draws apart under one seed. Values are stored nowhere but must not be
/// reordered: a resumed run must draw what the interrupted one would have drawn.
enum RngStream : std::uint32_t {
  kStreamInit = 1,
  kStreamShuffle = 2,
  kStreamSplit = 3,
  kStreamUndersample = 4,
  kStreamPatchout = 5,
  kStreamTimeOffset = 6,
  kStreamMelRange = 7,
  kStreamSpecAugment = 8,
  kStreamMixupWave = 9,
  kStreamMixupSpec = 10,
  kStreamGain = 11,
  kStreamRoll = 12,
  kStreamCrop = 13,
  kStreamDropout = 14,  // + index of the dropout layer in the upper 16 bits
  kStreamCorpus = 15,
  kStreamBootstrap = 16,
  kStreamTest = 17,
  kStreamMixupPartner = 18,
  kStreamValidation = 19,
  kStreamSmogn = 20,
  kStreamSmognChoice = 21,
  kStreamSmognMedian = 22,
  kStreamRareClips = 23,
  kStreamRareTies = 24,
  kStreamRarePartner = 25,
  kStreamPermute = 26,
};

/// One Philox4x32-10 block: four 32-bit words from a 128-bit counter and a 64-bit key.
ONPA_HOST_DEVICE inline void philox4x32(const std::uint32_t counter[4], std::uint32_t key0,
                                        std::uint32_t key1, std::uint32_t out[4]) {
  std::uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ key0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ key1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/// Block `block` (< 2^32) of the sequence that belongs to `key`.
ONPA_HOST_DEVICE inline void philox_block(const RngKey& key, std::uint64_t block,
                                          std::uint32_t out[4]) {
  const std::uint32_t counter[4] = {static_cast<std::uint32_t>(block), key.stream,
                                    static_cast<std::uint32_t>(key.step),
                                    static_cast<std::uint32_t>(key.sample)};
  philox4x32(counter, static_cast<std::uint32_t>(key.seed),
             static_cast<std::uint32_t>(key.seed >> 32), out);
}

/// Uniform in [0, 1) with 24 random bits.
ONPA_HOST_DEVICE inline float uniform_from_bits(std::uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

/// Uniform integer in [0, n), n >= 1, without modulo bias (Lemire), from source.next_u32().
template <class Source>
ONPA_HOST_DEVICE std::uint32_t below(Source& source, std::uint32_t n) {
  std::uint64_t m = std::uint64_t{source.next_u32()} * n;
  if (static_cast<std::uint32_t>(m) < n) {
    const std::uint32_t threshold = (0u - n) % n;
    while (static_cast<std::uint32_t>(m) < threshold) m = std::uint64_t{source.next_u32()} * n;
  }
  return static_cast<std::uint32_t>(m >> 32);
}

/// A sequential reader of one key's sequence.
class Philox {
 public:
  ONPA_HOST_DEVICE explicit Philox(const RngKey& key) : key_(key) {}

  ONPA_HOST_DEVICE std::uint32_t next_u32() {
    if (used_ == 4) {
      philox_block(key_, block_++, words_);
      used_ = 0;
    }
    return words_[used_++];
  }
  /// Uniform in [0, 1).
  double uniform() {
    const std::uint64_t hi = next_u32() >> 5, lo = next_u32() >> 6;
    return (static_cast<double>(hi) * 67108864.0 + static_cast<double>(lo)) * 0x1p-53;
  }
  /// As onpa::below.
  ONPA_HOST_DEVICE std::uint32_t below(std::uint32_t n) { return onpa::below(*this, n); }
  /// Standard normal (Box-Muller, one value kept).
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double r = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    const double angle = 6.283185307179586 * uniform();
    spare_ = r * std::sin(angle);
    has_spare_ = true;
    return r * std::cos(angle);
  }
  /// Fisher-Yates shuffle of a random-access range.
  template <class Range>
  void shuffle(Range& range) {
    using std::swap;
    for (std::size_t i = range.size(); i > 1; --i) {
      swap(range[i - 1], range[below(static_cast<std::uint32_t>(i))]);
    }
  }

 private:
  RngKey key_;
  std::uint64_t block_ = 0;
  std::uint32_t words_[4] = {};
  int used_ = 4;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace onpa
