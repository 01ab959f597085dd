// A training step on the GPU: planned memory, and after the first run one CUDA graph.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "tensor/memory_plan.h"
#include "tensor/tensor.h"

namespace onpa {

class DeviceStep {
 public:
  /// `body` starts the same work whenever it runs: what changes from step to step it reads from
  /// device memory. It must not wait for the GPU nor copy from the CPU. Steps that share an arena
  /// leave nothing in it for one another.
  explicit DeviceStep(std::function<void()> body, std::shared_ptr<SharedArena> shared = nullptr);
  ~DeviceStep();
  DeviceStep(const DeviceStep&) = delete;
  DeviceStep& operator=(const DeviceStep&) = delete;

  /// Queues one run of the step: the first plans its memory and starts the kernels one by one, the
  /// second captures them, later ones replay the graph. As long as somebody listens to scopes
  /// (op_scope.h) kernels are started one by one. Throws Error: kOutOfMemory, kDevice.
  void run();
  /// The step's memory; planned now if it was not yet.
  const MemoryPlan& plan();

 private:
  struct Graph;

  std::function<void()> body_;
  std::shared_ptr<SharedArena> shared_;
  std::optional<MemoryPlan> plan_;
  std::optional<StepArena> arena_;
  std::unique_ptr<Graph> graph_;
};

/// Fills device tensors from the CPU while the GPU works: bytes go through pinned memory and a
/// second stream, and arrive in the order of the main one.
class Uploader {
 public:
  Uploader();
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  /// Queues copying `bytes` from the CPU into `to` (at least as large). `from` may be changed as
  /// soon as this returns.
  void upload(const Tensor& to, const void* from, std::size_t bytes);
  void upload(const Tensor& to, const Tensor& from) { upload(to, from.bytes(), from.byte_count()); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Small results that come back without the step waiting for them: fetch() after a step, take() the
/// oldest fetched one later.
class Downloader {
 public:
  Downloader();
  ~Downloader();
  Downloader(const Downloader&) = delete;
  Downloader& operator=(const Downloader&) = delete;

  static constexpr std::size_t kMaxBytes = 256;  // of one fetch
  /// Queues copying `from` to the CPU, after the work queued so far.
  void fetch(const Tensor& from);
  /// Fetches that take() has not returned.
  std::size_t pending() const;
  /// Whether take() would return at once.
  bool ready() const;
  /// Waits for the oldest fetch and copies its bytes to `to`.
  void take(void* to, std::size_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onpa
