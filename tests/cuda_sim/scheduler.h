// Which thread goes on: the set of threads that can run, in the order of the policy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/cuda_sim/control.h"

namespace sim::detail {

/// xorshift64*: the schedule's randomness, the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed = 1) { reset(seed); }
  void reset(std::uint64_t seed);
  std::uint64_t next();
  /// Evenly in [0, n).
  std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>((next() >> 32) * n >> 32);
  }

 private:
  std::uint64_t state_ = 1;
};

/// Threads are numbered slot * threads_per_slot + index, a slot being the place of a resident
/// block.
class Scheduler {
 public:
  static constexpr int kMaxThreads = 4096;

  void reset(Policy policy, int slots, int threads_per_slot, Random* random);
  void add(int id);
  /// Takes the next thread out of the set; -1 if it is empty.
  int take();
  /// As take, but prefers another than `self`, which is in the set: everybody gets a turn in the
  /// end, however threads spin.
  int take_after(int self);
  /// Draws ranks again, where the policy has random ones.
  void redraw();

 private:
  void rank_all();
  void set(int rank) {
    words_[static_cast<std::size_t>(rank / 64)] |= 1ull << (rank % 64);
    summary_ |= 1ull << (rank / 64);
  }
  int take_rank(int rank);
  int first_from(int rank) const;

  Policy policy_ = Policy::kInOrder;
  Random* random_ = nullptr;
  int slots_ = 0, per_slot_ = 0;
  std::vector<int> rank_of_, id_at_;
  std::uint64_t words_[kMaxThreads / 64] = {};
  std::uint64_t summary_ = 0;
  std::vector<int> uniform_;  // kUniform: the set itself
  std::vector<int> ready_;
  std::vector<std::pair<int, int>> warps_;  // [first, last) of each
};

}  // namespace sim::detail
