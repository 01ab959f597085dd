// Reference-counted memory blocks with reuse: a freed block is kept for the next request of its
// size, so a training step after the first asks the system for nothing.
#pragma once

#include <cstddef>
#include <memory>

namespace onpa {

enum class DeviceKind : unsigned char { kCpu, kCuda };

class Storage {
 public:
  /// `bytes` of uninitialised memory aligned to 64 bytes; never null, also for 0 bytes.
  /// Throws Error (kOutOfMemory) naming the size if there is none.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, DeviceKind device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  DeviceKind device() const { return device_; }

 private:
  Storage(void* data, std::size_t bytes, std::size_t capacity, DeviceKind device)
      : data_(data), bytes_(bytes), capacity_(capacity), device_(device) {}

  void* data_;
  std::size_t bytes_, capacity_;
  DeviceKind device_;
};

/// Bytes that live tensors hold on the CPU, now and at most since the last reset.
struct MemoryStats {
  std::size_t live_bytes = 0;
  std::size_t peak_bytes = 0;
  std::size_t cached_bytes = 0;  // freed blocks kept for reuse
};
MemoryStats memory_stats();
void reset_peak_memory();
/// Returns all cached blocks to the system.
void release_cached_memory();

}  // namespace onpa
