// Where device allocations of this thread come from while a step is planned or run in its arena.
#pragma once

#include <cstddef>
#include <memory>

namespace onpa::detail {

class StepMemory {
 public:
  virtual ~StepMemory() = default;
  virtual void* allocate(std::size_t bytes) = 0;
  /// Called when the last handle to a block is gone, also after the step.
  virtual void release(void* block) = 0;
};

/// Makes `memory` the source of this thread's device allocations while it lives.
class StepMemoryScope {
 public:
  explicit StepMemoryScope(std::shared_ptr<StepMemory> memory);
  ~StepMemoryScope();
  StepMemoryScope(const StepMemoryScope&) = delete;
  StepMemoryScope& operator=(const StepMemoryScope&) = delete;

 private:
  std::shared_ptr<StepMemory> previous_;
};
/// Null outside of any scope.
const std::shared_ptr<StepMemory>& step_memory();

}  // namespace onpa::detail
