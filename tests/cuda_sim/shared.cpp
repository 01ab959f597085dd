// Shared memory of the resident blocks.
#include "tests/cuda_sim/shared.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

namespace sim::detail {

namespace {

constexpr std::uint16_t kUnwritten = 0xFFF1;  // in a row a NaN of every type, bits of both kinds
constexpr std::size_t kGapBytes = 256;
constexpr std::size_t kMostParts = 64;

void fill_unwritten(void* memory, std::size_t bytes) {
  auto* to = static_cast<unsigned char*>(memory);
  for (std::size_t i = 0; i < bytes; ++i) {
    to[i] = static_cast<unsigned char>(kUnwritten >> i % 2 * 8);
  }
}

unsigned char* allocate(std::size_t bytes, std::size_t alignment) {
  void* p = nullptr;
  if (posix_memalign(&p, std::max<std::size_t>(alignment, 16), std::max<std::size_t>(bytes, 1))) {
    std::abort();
  }
  return static_cast<unsigned char*>(p);
}

void check_total(const Block& block, const char* name, Site site) {
  const std::size_t total = block.static_bytes + engine().launch->smem_bytes;
  if (total <= options().max_smem) return;
  fail_at(site, std::string("shared memory: ") + name + " makes it " + std::to_string(total) +
                    " bytes, have " + std::to_string(options().max_smem));
}

}  // namespace

void* shared_variable(SharedSlot& slot, std::size_t bytes, std::size_t alignment, Site site) {
  Block& block = *engine().current->block;
  static int slots = 0;
  if (slot.id == 0) slot.id = ++slots;
  const auto id = static_cast<std::size_t>(slot.id);
  if (id < block.by_slot.size() && block.by_slot[id] != nullptr) return block.by_slot[id];
  const IgnoreAccesses quiet;
  unsigned char* memory = allocate(bytes, alignment);
  fill_unwritten(memory, bytes);
  if (id >= block.by_slot.size()) block.by_slot.resize(id + 1, nullptr);
  block.by_slot[id] = memory;
  block.variables.push_back({memory, bytes});
  block.static_bytes += bytes;
  check_total(block, slot.name, site);
  return memory;
}

unsigned char* dynamic_shared() {
  return engine().current->block->dynamic;
}

void* carve(unsigned char* memory, std::size_t offset, std::size_t bytes, Site site) {
  Block& block = *engine().current->block;
  const IgnoreAccesses quiet;
  if (memory != block.dynamic) fail_at(site, "Carver: not the start of dynamic shared memory");
  if (offset + bytes > engine().launch->smem_bytes) {
    fail_at(site, "Carver: takes " + std::to_string(offset + bytes) + " bytes, the launch gave " +
                      std::to_string(engine().launch->smem_bytes));
  }
  std::size_t end = 0, at = 0;
  for (const CarvedPart& part : block.parts) {
    if (part.offset == offset && part.bytes == bytes) return block.dynamic + part.at;
    end = part.offset + (part.bytes + 15) / 16 * 16;
    at = part.at + (part.bytes + 15) / 16 * 16 + kGapBytes;
  }
  if (bytes == 0) return block.dynamic + block.dynamic_allocated;
  if (offset != end || block.parts.size() == kMostParts) {
    fail_at(site, "Carver: this thread divides the memory otherwise than those before it");
  }
  if (block.parts.empty()) poison(block.dynamic, block.dynamic_allocated);
  block.parts.push_back({offset, bytes, at});
  unpoison(block.dynamic + at, bytes);
  return block.dynamic + at;
}

void check_shared(const void* p, const char* what, Site site) {
  const Block& block = *engine().current->block;
  const auto* byte = static_cast<const unsigned char*>(p);
  if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) {
    fail_at(site, std::string(what) + " is not 16-byte aligned");
  }
  if (byte >= block.dynamic && byte < block.dynamic + block.dynamic_allocated) return;
  for (const SharedRange& range : block.variables) {
    if (byte >= range.memory && byte < range.memory + range.bytes) return;
  }
  fail_at(site, std::string(what) + " is not in the block's shared memory");
}

void reset_shared(Block& block) {
  const std::size_t bytes = engine().launch->smem_bytes;
  if (block.dynamic == nullptr) {
    block.dynamic_allocated = bytes + kMostParts * kGapBytes;
    block.dynamic = allocate(block.dynamic_allocated, 1024);
  }
  unpoison(block.dynamic, block.dynamic_allocated);
  fill_unwritten(block.dynamic, block.dynamic_allocated);
  poison(block.dynamic + bytes, block.dynamic_allocated - bytes);
  block.parts.clear();
  block.parts.reserve(kMostParts);
  for (const SharedRange& range : block.variables) {
    fill_unwritten(range.memory, range.bytes);
  }
}

void free_shared(Block& block) {
  for (const SharedRange& range : block.variables) std::free(range.memory);
  block.variables.clear();
  std::fill(block.by_slot.begin(), block.by_slot.end(), nullptr);
  block.static_bytes = 0;
  if (block.dynamic != nullptr) unpoison(block.dynamic, block.dynamic_allocated);
  std::free(block.dynamic);
  block.dynamic = nullptr;
  block.dynamic_allocated = 0;
}

}  // namespace sim::detail
