// Reference-counted memory blocks with reuse: a freed block is kept for the next request of its
// size, so a training step after the first asks the system for nothing. On the GPU a block may be
// handed out again while queued work still reads it: all work is in the order of one stream.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace onpa {

enum class DeviceKind : unsigned char { kCpu, kCuda };

namespace detail {
class StepMemory;
}

class Storage {
 public:
  /// `bytes` of uninitialised memory, aligned to 64 bytes (256 on the GPU); never null, also for 0
  /// bytes. While a step is planned or run in its arena, GPU memory comes from there.
  /// Throws Error: kOutOfMemory naming the size if there is none, kDevice without a GPU.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, DeviceKind device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// Null between give_back() and borrow().
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  DeviceKind device() const { return device_; }

  /// Frees the memory while handles to it stay; the values are lost. data() is null from then on.
  void give_back();
  /// Gives the handles of a block that was given back the memory of `lender`, which stays alive as
  /// long as they do. Throws Error unless it is as large and on the same device.
  void borrow(std::shared_ptr<Storage> lender);

 private:
  Storage(void* data, std::size_t bytes, std::size_t capacity, DeviceKind device,
          std::shared_ptr<detail::StepMemory> owner = nullptr)
      : data_(data),
        bytes_(bytes),
        capacity_(capacity),
        device_(device),
        owner_(std::move(owner)) {}

  void* data_;
  std::size_t bytes_, capacity_;
  DeviceKind device_;
  std::shared_ptr<detail::StepMemory> owner_;  // null: the block goes back to the cache
  std::shared_ptr<Storage> lender_;            // whose memory this is, where it is not its own
};

/// Bytes that live tensors hold on a device, now and at most since the last reset; memory of step
/// arenas counts as one block each.
struct MemoryStats {
  std::size_t live_bytes = 0;
  std::size_t peak_bytes = 0;
  std::size_t cached_bytes = 0;  // freed blocks kept for reuse
};
MemoryStats memory_stats(DeviceKind device = DeviceKind::kCpu);
void reset_peak_memory(DeviceKind device = DeviceKind::kCpu);
/// Returns all cached blocks to the system.
void release_cached_memory(DeviceKind device = DeviceKind::kCpu);

}  // namespace onpa
