#include "tensor/memory_plan.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "kernels/error.h"
#include "tensor/step_memory.h"

namespace onpa {
namespace {

constexpr std::size_t kBlockAlignment = 256;

thread_local const char* current_category = "other";
thread_local bool planning = false;

std::size_t round_up(std::size_t bytes) {
  return std::max(kBlockAlignment,
                  (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment);
}

// Gives out addresses that do not exist and writes down who lives when.
class Recorder : public detail::StepMemory {
 public:
  void* allocate(std::size_t bytes) override {
    // Never dereferenced; far from null so that offsets into a block stay apart from "no pointer".
    void* address = reinterpret_cast<void*>(next_address_);
    next_address_ += round_up(bytes);
    index_[address] = blocks_.size();
    blocks_.push_back({.bytes = bytes, .begin = time_++, .end = 0, .category = current_category});
    return address;
  }
  void release(void* block) override {
    if (closed_) return;
    blocks_[index_.at(block)].end = time_++;
  }
  // What is still alive lives to the end of the step.
  std::vector<PlannedBlock> close() {
    closed_ = true;
    for (PlannedBlock& block : blocks_) {
      if (block.end == 0) block.end = time_;
    }
    return blocks_;
  }

 private:
  std::vector<PlannedBlock> blocks_;
  std::unordered_map<void*, std::size_t> index_;
  std::uintptr_t next_address_ = std::uintptr_t{1} << 44;
  std::size_t time_ = 1;
  bool closed_ = false;
};

// Gives out the planned addresses in the planned order.
class Replay : public detail::StepMemory {
 public:
  Replay(std::shared_ptr<const MemoryPlan> plan, std::shared_ptr<Storage> memory)
      : plan_(std::move(plan)), memory_(std::move(memory)) {}
  void* allocate(std::size_t bytes) override {
    const auto& blocks = plan_->blocks();
    ONPA_CHECK(next_ < blocks.size(), "step arena: allocation ", next_ + 1, " of ", bytes,
               " bytes was not planned");
    const PlannedBlock& block = blocks[next_];
    ONPA_CHECK(block.bytes == bytes, "step arena: allocation ", next_ + 1, " is of ", bytes,
               " bytes, planned were ", block.bytes);
    ++next_;
    return static_cast<std::byte*>(memory_->data()) + block.offset;
  }
  void release(void*) override {}
  std::size_t used() const { return next_; }

 private:
  std::shared_ptr<const MemoryPlan> plan_;
  std::shared_ptr<Storage> memory_;  // blocks that outlive the step keep the arena
  std::size_t next_ = 0;
};

class Planning {
 public:
  Planning() : previous_(planning) { planning = true; }
  ~Planning() { planning = previous_; }
  Planning(const Planning&) = delete;
  Planning& operator=(const Planning&) = delete;

 private:
  bool previous_;
};

// Offsets such that no two blocks alive together overlap: largest blocks first, each at the lowest
// place that is free for its whole life. Returns the arena's size.
std::size_t place(std::vector<PlannedBlock>& blocks) {
  std::vector<PlannedBlock*> order;
  for (PlannedBlock& block : blocks) order.push_back(&block);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->bytes > b->bytes; });
  std::vector<PlannedBlock*> placed;  // by offset
  std::size_t size = 0;
  for (PlannedBlock* block : order) {
    const std::size_t wanted = round_up(block->bytes);
    std::size_t offset = 0;
    for (const PlannedBlock* other : placed) {
      if (other->end <= block->begin || block->end <= other->begin) continue;
      if (other->offset >= offset + wanted) break;
      offset = std::max(offset, other->offset + round_up(other->bytes));
    }
    block->offset = offset;
    const auto at =
        std::upper_bound(placed.begin(), placed.end(), block,
                         [](const auto* a, const auto* b) { return a->offset < b->offset; });
    placed.insert(at, block);
    size = std::max(size, offset + wanted);
  }
  return size;
}

// The moment at which most bytes are alive.
std::pair<std::size_t, std::size_t> peak_of(const std::vector<PlannedBlock>& blocks) {
  std::map<std::size_t, std::ptrdiff_t> change;
  for (const PlannedBlock& block : blocks) {
    change[block.begin] += static_cast<std::ptrdiff_t>(block.bytes);
    change[block.end] -= static_cast<std::ptrdiff_t>(block.bytes);
  }
  std::ptrdiff_t alive = 0, most = 0;
  std::size_t when = 0;
  for (const auto& [time, bytes] : change) {
    alive += bytes;
    if (alive > most) {
      most = alive;
      when = time;
    }
  }
  return {static_cast<std::size_t>(most), when};
}

}  // namespace

MemoryPlan MemoryPlan::make(const std::function<void()>& step) {
  const auto recorder = std::make_shared<Recorder>();
  {
    const Planning planning_now;
    const detail::StepMemoryScope scope(recorder);
    step();
  }
  MemoryPlan plan;
  plan.blocks_ = recorder->close();
  plan.peak_bytes_ = peak_of(plan.blocks_).first;
  plan.bytes_ = place(plan.blocks_);
  return plan;
}

std::vector<std::pair<std::string, std::size_t>> MemoryPlan::peak_by_category() const {
  const std::size_t when = peak_of(blocks_).second;
  std::map<std::string, std::size_t> sums;
  for (const PlannedBlock& block : blocks_) {
    if (block.begin <= when && when < block.end) sums[block.category] += block.bytes;
  }
  std::vector<std::pair<std::string, std::size_t>> out(sums.begin(), sums.end());
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return out;
}

MemoryCategory::MemoryCategory(const char* name) : previous_(current_category) {
  current_category = name;
}
MemoryCategory::~MemoryCategory() {
  current_category = previous_;
}

bool planning_memory() {
  return planning;
}

std::shared_ptr<Storage> SharedArena::at_least(std::size_t bytes) {
  if (!memory_ || memory_->bytes() < bytes) {
    memory_ = Storage::allocate(bytes, DeviceKind::kCuda);
  }
  return memory_;
}

StepArena::StepArena(MemoryPlan plan, SharedArena* shared)
    : plan_(std::make_shared<const MemoryPlan>(std::move(plan))),
      memory_(shared != nullptr ? shared->at_least(plan_->bytes())
                                : Storage::allocate(plan_->bytes(), DeviceKind::kCuda)) {}

void StepArena::run(const std::function<void()>& step) {
  const auto replay = std::make_shared<Replay>(plan_, memory_);
  const detail::StepMemoryScope scope(replay);
  step();
  ONPA_CHECK(replay->used() == plan_->blocks().size(), "step arena: ", replay->used(),
             " allocations, planned were ", plan_->blocks().size());
}

namespace detail {
namespace {
thread_local std::shared_ptr<StepMemory> active;
}  // namespace

StepMemoryScope::StepMemoryScope(std::shared_ptr<StepMemory> memory)
    : previous_(std::exchange(active, std::move(memory))) {}
StepMemoryScope::~StepMemoryScope() {
  active = std::move(previous_);
}
const std::shared_ptr<StepMemory>& step_memory() {
  return active;
}
}  // namespace detail

}  // namespace onpa
