// cp.async: what is under way, and when it arrives.
#include "tests/cuda_sim/async.h"

#include <algorithm>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

namespace sim::detail {

namespace {

// The data may arrive at any time before the wait, over whatever was written there since.
void check_destination(const PendingCopy& pending) {
  const auto* words = static_cast<const std::uint32_t*>(pending.copy.to);
  if (std::all_of(words, words + 4, [](std::uint32_t w) { return w == kNotArrived; })) return;
  fail_at(pending.site, "cp.async: its destination was written before the copy was waited for");
}

}  // namespace

bool copy_begin(const Copy& copy, const void* from, bool pred, Site site) {
  Engine& e = engine();
  Thread& thread = *e.current;
  ++stats().cp_async;
  if (pred && reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    fail_at(site, "cp.async source is not 16-byte aligned");
  }
  const CpAsync mode = options().cp_async;
  if (mode == CpAsync::kEarly || (mode == CpAsync::kRandom && e.random.below(2) == 0)) return true;
  const IgnoreAccesses quiet;
  thread.copies.push_back({copy, thread.groups, site});
  return false;
}

void copy_commit() {
  ++engine().current->groups;
}

const Copy* copy_next(int groups_left) {
  Thread& thread = *engine().current;
  if (thread.copies_delivered == thread.copies.size()) {
    thread.copies.clear();
    thread.copies_delivered = 0;
    return nullptr;
  }
  const PendingCopy& next = thread.copies[thread.copies_delivered];
  if (next.group >= thread.groups - groups_left) return nullptr;
  check_destination(next);
  ++thread.copies_delivered;
  return &next.copy;
}

void check_copies(const Block& block) {
  for (const Thread& thread : block.threads) {
    for (std::size_t i = thread.copies_delivered; i < thread.copies.size(); ++i) {
      check_destination(thread.copies[i]);
    }
  }
}

}  // namespace sim::detail
