#include "tests/cuda_sim/scheduler.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace sim::detail {

void Random::reset(std::uint64_t seed) {
  // Neighbouring seeds must not give similar sequences (splitmix64).
  std::uint64_t z = seed + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  state_ = (z ^ (z >> 31)) | 1;
}

std::uint64_t Random::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545F4914F6CDD1Dull;
}

void Scheduler::reset(Policy policy, int slots, int threads_per_slot, Random* random) {
  policy_ = policy;
  random_ = random;
  slots_ = slots;
  per_slot_ = threads_per_slot;
  std::fill(std::begin(words_), std::end(words_), 0);
  summary_ = 0;
  uniform_.clear();
  const auto n = static_cast<std::size_t>(slots * threads_per_slot);
  // Nothing is allocated later, in a kernel's thread.
  uniform_.reserve(n);
  ready_.reserve(n);
  warps_.reserve(n);
  rank_of_.resize(n);
  id_at_.resize(n);
  rank_all();
}

void Scheduler::rank_all() {
  const int n = slots_ * per_slot_;
  std::iota(id_at_.begin(), id_at_.end(), 0);
  if (policy_ == Policy::kReverse) std::reverse(id_at_.begin(), id_at_.end());
  if (policy_ == Policy::kPriority) {
    // Warps in random order, and the lanes of each.
    for (int slot = 0; slot < slots_; ++slot) {
      for (int i = 0; i < per_slot_; i += 32) {
        warps_.emplace_back(slot * per_slot_ + i, slot * per_slot_ + std::min(i + 32, per_slot_));
      }
    }
    std::size_t at = 0;
    while (!warps_.empty()) {
      std::swap(warps_[random_->below(static_cast<std::uint32_t>(warps_.size()))], warps_.back());
      const std::size_t start = at;
      for (int id = warps_.back().first; id < warps_.back().second; ++id) id_at_[at++] = id;
      warps_.pop_back();
      for (std::size_t k = at - start; k > 1; --k) {
        std::swap(id_at_[start + random_->below(static_cast<std::uint32_t>(k))],
                  id_at_[start + k - 1]);
      }
    }
  }
  for (int rank = 0; rank < n; ++rank) {
    rank_of_[static_cast<std::size_t>(id_at_[static_cast<std::size_t>(rank)])] = rank;
  }
}

void Scheduler::redraw() {
  if (policy_ != Policy::kPriority) return;
  for (int id = take(); id >= 0; id = take()) ready_.push_back(id);
  rank_all();
  for (const int id : ready_) add(id);
  ready_.clear();
}

void Scheduler::add(int id) {
  if (policy_ == Policy::kUniform) {
    uniform_.push_back(id);
  } else {
    set(rank_of_[static_cast<std::size_t>(id)]);
  }
}

int Scheduler::first_from(int rank) const {
  int word = rank / 64;
  if (word >= kMaxThreads / 64) return -1;
  const std::uint64_t here = words_[word] >> (rank % 64) << (rank % 64);
  if (here != 0) return word * 64 + std::countr_zero(here);
  if (++word == 64) return -1;
  const std::uint64_t later = summary_ >> word << word;
  if (later == 0) return -1;
  word = std::countr_zero(later);
  return word * 64 + std::countr_zero(words_[word]);
}

int Scheduler::take_rank(int rank) {
  if (rank < 0) return -1;
  std::uint64_t& word = words_[rank / 64];
  word &= ~(1ull << (rank % 64));
  if (word == 0) summary_ &= ~(1ull << (rank / 64));
  return id_at_[static_cast<std::size_t>(rank)];
}

int Scheduler::take() {
  if (policy_ != Policy::kUniform) return take_rank(first_from(0));
  if (uniform_.empty()) return -1;
  std::swap(uniform_[random_->below(static_cast<std::uint32_t>(uniform_.size()))], uniform_.back());
  const int id = uniform_.back();
  uniform_.pop_back();
  return id;
}

int Scheduler::take_after(int self) {
  if (policy_ == Policy::kUniform) return take();
  const int rank = first_from(rank_of_[static_cast<std::size_t>(self)] + 1);
  return rank >= 0 ? take_rank(rank) : take_rank(first_from(0));
}

}  // namespace sim::detail
