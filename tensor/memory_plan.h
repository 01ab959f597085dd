// Planned device memory: a step is run once without computing, the sizes and lives of what it
// allocates are packed into one block, and every later run of the step gets those addresses. So a
// training step needs no allocator, can be captured as a CUDA graph, and its memory is known before
// any device is touched.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor/storage.h"

namespace onpa {

/// One allocation of a step. Times count allocations and releases from the start of the step.
struct PlannedBlock {
  std::size_t bytes = 0;
  std::size_t begin = 0, end = 0;  // alive in [begin, end)
  std::size_t offset = 0;          // in the arena; a multiple of 256
  const char* category = "";       // MemoryCategory in force when it was made
};

class MemoryPlan {
 public:
  /// Runs `step` with device memory that does not exist and without starting kernels, then places
  /// the blocks. `step` must do the same whenever it runs.
  static MemoryPlan make(const std::function<void()>& step);

  /// Size of the arena.
  std::size_t bytes() const { return bytes_; }
  /// The most bytes alive at once: no placement can do with less.
  std::size_t peak_bytes() const { return peak_bytes_; }
  const std::vector<PlannedBlock>& blocks() const { return blocks_; }
  /// Bytes alive at the moment of the peak, by category, largest first.
  std::vector<std::pair<std::string, std::size_t>> peak_by_category() const;

 private:
  std::vector<PlannedBlock> blocks_;
  std::size_t bytes_ = 0, peak_bytes_ = 0;
};

/// Names what is allocated on this thread while it lives ("activations", "gradients").
class MemoryCategory {
 public:
  explicit MemoryCategory(const char* name);
  ~MemoryCategory();
  MemoryCategory(const MemoryCategory&) = delete;
  MemoryCategory& operator=(const MemoryCategory&) = delete;

 private:
  const char* previous_;
};

/// Device memory that steps on one stream use in turn: what one leaves there, the next overwrites.
class SharedArena {
 public:
  /// The memory so far if it is large enough, else new memory that takes its place; steps that
  /// were given the old one keep it. Throws Error (kOutOfMemory).
  std::shared_ptr<Storage> at_least(std::size_t bytes);

 private:
  std::shared_ptr<Storage> memory_;
};

/// The device memory of one step, allocated once.
class StepArena {
 public:
  /// In `shared` memory if it is given. Throws Error (kOutOfMemory) naming the bytes that are
  /// wanted and free.
  explicit StepArena(MemoryPlan plan, SharedArena* shared = nullptr);
  /// Runs `step` in the arena. Throws Error if it does not allocate as planned.
  void run(const std::function<void()>& step);
  const MemoryPlan& plan() const { return *plan_; }

 private:
  std::shared_ptr<const MemoryPlan> plan_;
  std::shared_ptr<Storage> memory_;
};

/// Whether this thread is in MemoryPlan::make: kernels are not started and device addresses are not
/// real.
bool planning_memory();

}  // namespace onpa
