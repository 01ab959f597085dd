#include "tensor/storage.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define ONPA_CACHE_BLOCKS 0  // let the sanitizer see every free
#else
#define ONPA_CACHE_BLOCKS 1
#endif

namespace onpa {
namespace {

constexpr std::size_t kAlignment = 64;

struct BlockCache {
  std::mutex mutex;
  std::map<std::size_t, std::vector<void*>> free_blocks;  // by capacity
  MemoryStats stats;
};

BlockCache& cache() {
  static BlockCache* instance = new BlockCache;  // never destroyed: tensors may outlive statics
  return *instance;
}

// Rounds up so that slightly different sizes share blocks: to 64 B, then to 1/8 of a power of two.
std::size_t capacity_for(std::size_t bytes) {
  std::size_t step = kAlignment;
  while (step * 16 <= bytes) step *= 2;
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

void drop_cached(BlockCache& c) {
  for (auto& [capacity, blocks] : c.free_blocks) {
    for (void* block : blocks) std::free(block);
  }
  c.free_blocks.clear();
  c.stats.cached_bytes = 0;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, DeviceKind device) {
  ONPA_CHECK(device == DeviceKind::kCpu, "storage: this build has no CUDA");
  BlockCache& c = cache();
  const std::size_t capacity = capacity_for(bytes);
  std::lock_guard lock(c.mutex);
  void* data = nullptr;
  if (auto it = c.free_blocks.find(capacity); it != c.free_blocks.end() && !it->second.empty()) {
    data = it->second.back();
    it->second.pop_back();
    c.stats.cached_bytes -= capacity;
  } else {
    data = std::aligned_alloc(kAlignment, capacity);
    if (data == nullptr) {
      drop_cached(c);
      data = std::aligned_alloc(kAlignment, capacity);
    }
    if (data == nullptr) {
      fail(ExitCode::kOutOfMemory, "out of memory: ", bytes >> 20, " MiB asked for, ",
           c.stats.live_bytes >> 20, " MiB in use; lower train.batch_size");
    }
  }
  c.stats.live_bytes += capacity;
  c.stats.peak_bytes = std::max(c.stats.peak_bytes, c.stats.live_bytes);
  return std::shared_ptr<Storage>(new Storage(data, bytes, capacity, device));
}

Storage::~Storage() {
  BlockCache& c = cache();
  std::lock_guard lock(c.mutex);
  c.stats.live_bytes -= capacity_;
  if (ONPA_CACHE_BLOCKS) {
    c.free_blocks[capacity_].push_back(data_);
    c.stats.cached_bytes += capacity_;
  } else {
    std::free(data_);
  }
}

MemoryStats memory_stats() {
  BlockCache& c = cache();
  std::lock_guard lock(c.mutex);
  return c.stats;
}

void reset_peak_memory() {
  BlockCache& c = cache();
  std::lock_guard lock(c.mutex);
  c.stats.peak_bytes = c.stats.live_bytes;
}

void release_cached_memory() {
  BlockCache& c = cache();
  std::lock_guard lock(c.mutex);
  drop_cached(c);
}

}  // namespace onpa
