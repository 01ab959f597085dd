#include "tensor/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "kernels/error.h"
#include "tensor/device_memory.h"
#include "tensor/step_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define ONPA_CACHE_BLOCKS 0  // let the sanitizer see every free
#else
#define ONPA_CACHE_BLOCKS 1
#endif

namespace onpa {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct BlockCache {
  std::mutex mutex;
  std::map<std::size_t, std::vector<void*>> free_blocks;  // by capacity
  MemoryStats stats;
};

BlockCache& cache(DeviceKind device) {
  // Never destroyed: tensors may outlive statics.
  static BlockCache* instances = new BlockCache[2];
  return instances[device == DeviceKind::kCuda ? 1 : 0];
}

// Rounds up so that slightly different sizes share blocks: to 64 B, then to 1/8 of a power of two.
// On the GPU to 2 MiB at most, the unit of its driver: a step's arena may be most of the memory.
std::size_t capacity_for(std::size_t bytes, DeviceKind device) {
  const std::size_t coarsest =
      device == DeviceKind::kCuda ? std::size_t{2} << 20 : std::numeric_limits<std::size_t>::max();
  std::size_t step = kAlignment;
  while (step * 16 <= bytes && step < coarsest) step *= 2;
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

// Large blocks ask for huge pages: a step walks gigabytes, and the translations of small pages do
// not fit the processor's tables. What the block leaves of its last huge page stays untouched.
void* allocate_host_block(std::size_t capacity) {
  if (capacity < kHugePage) return std::aligned_alloc(kAlignment, capacity);
  const std::size_t whole = (capacity + kHugePage - 1) / kHugePage * kHugePage;
  void* block = std::aligned_alloc(kHugePage, whole);
  if (block != nullptr) ::madvise(block, whole, MADV_HUGEPAGE);  // refused: small pages
  return block;
}

// Null if there is not enough.
void* allocate_block(std::size_t capacity, DeviceKind device) {
  return device == DeviceKind::kCpu ? allocate_host_block(capacity)
                                    : detail::allocate_device_block(capacity);
}
void free_block(void* block, DeviceKind device) {
  device == DeviceKind::kCpu ? std::free(block) : detail::free_device_block(block);
}

void drop_cached(BlockCache& c, DeviceKind device) {
  for (auto& [capacity, blocks] : c.free_blocks) {
    for (void* block : blocks) free_block(block, device);
  }
  c.free_blocks.clear();
  c.stats.cached_bytes = 0;
}

// False if there is no memory to note it, which a destructor must survive.
bool keep_block(BlockCache& c, std::size_t capacity, void* block) {
  try {
    c.free_blocks[capacity].push_back(block);
  } catch (const std::bad_alloc&) {
    return false;
  }
  c.stats.cached_bytes += capacity;
  return true;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, DeviceKind device) {
  if (const auto& memory = detail::step_memory(); memory && device == DeviceKind::kCuda) {
    void* data = memory->allocate(bytes);
    return std::shared_ptr<Storage>(new Storage(data, bytes, bytes, device, memory));
  }
  BlockCache& c = cache(device);
  const std::size_t capacity = capacity_for(bytes, device);
  std::unique_lock lock(c.mutex);
  void* data = nullptr;
  if (auto it = c.free_blocks.find(capacity); it != c.free_blocks.end() && !it->second.empty()) {
    data = it->second.back();
    it->second.pop_back();
    c.stats.cached_bytes -= capacity;
  } else {
    data = allocate_block(capacity, device);
    if (data == nullptr) {
      drop_cached(c, device);
      data = allocate_block(capacity, device);
    }
    if (data == nullptr) {
      fail(ExitCode::kOutOfMemory, "out of memory",
           device == DeviceKind::kCuda ? " on the GPU" : "", ": ", bytes >> 20, " MiB asked for, ",
           c.stats.live_bytes >> 20, " MiB in use; lower the batch size");
    }
  }
  c.stats.live_bytes += capacity;
  c.stats.peak_bytes = std::max(c.stats.peak_bytes, c.stats.live_bytes);
  lock.unlock();  // if there is no memory for what follows, the block is given back
  return std::shared_ptr<Storage>(new Storage(data, bytes, capacity, device));
}

Storage::~Storage() {
  if (data_ != nullptr && !lender_) give_back();
}

void Storage::borrow(std::shared_ptr<Storage> lender) {
  ONPA_CHECK(data_ == nullptr && lender->data_ != nullptr && lender->bytes_ == bytes_ &&
                 lender->device_ == device_,
             "storage: ", bytes_, " bytes ", data_ == nullptr ? "given back" : "in use",
             " cannot borrow ", lender->bytes_, " bytes");
  data_ = lender->data_;
  lender_ = std::move(lender);
}

void Storage::give_back() {
  ONPA_CHECK(data_ != nullptr && !lender_, "storage: ", bytes_, " bytes that are not its own");
  void* block = std::exchange(data_, nullptr);
  if (owner_) {
    owner_->release(block);
    return;
  }
  BlockCache& c = cache(device_);
  std::lock_guard lock(c.mutex);
  c.stats.live_bytes -= capacity_;
  if (ONPA_CACHE_BLOCKS && keep_block(c, capacity_, block)) return;
  free_block(block, device_);
}

MemoryStats memory_stats(DeviceKind device) {
  BlockCache& c = cache(device);
  std::lock_guard lock(c.mutex);
  return c.stats;
}

void reset_peak_memory(DeviceKind device) {
  BlockCache& c = cache(device);
  std::lock_guard lock(c.mutex);
  c.stats.peak_bytes = c.stats.live_bytes;
}

void release_cached_memory(DeviceKind device) {
  BlockCache& c = cache(device);
  std::lock_guard lock(c.mutex);
  drop_cached(c, device);
}

}  // namespace onpa
