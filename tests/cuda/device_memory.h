// Device memory for tests, guarded on both sides.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/check.h"

#if defined(ONPA_CUDA_SIM) && defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) (static_cast<void>(0))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) (static_cast<void>(0))
#endif

namespace onpa::testing {

/// `count` elements of device memory. Bytes on both sides hold 0xFF, which a kernel that reads past
/// the end sees as NaN and under AddressSanitizer cannot read at all; the test fails if they
/// change.
template <class T>
class DeviceArray {
 public:
  /// Elements hold the bytes 0xFF: NaN for float and bf16. The first lies `offset` elements behind
  /// a 256-byte boundary.
  explicit DeviceArray(std::int64_t count, std::int64_t offset = 0)
      : DeviceArray(nullptr, count, offset) {}
  /// A copy of `values`.
  explicit DeviceArray(const std::vector<T>& values, std::int64_t offset = 0)
      : DeviceArray(values.data(), static_cast<std::int64_t>(values.size()), offset) {}
  DeviceArray(DeviceArray&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)), first_(other.first_), count_(other.count_) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray& operator=(DeviceArray&&) = delete;

  ~DeviceArray() {
    if (block_ == nullptr) return;
    EXPECT_EQ(damaged_guard_bytes(), 0) << "bytes written outside of an array of " << count_;
    EXPECT_EQ(cudaFree(block_), cudaSuccess);
  }

  T* data() const { return reinterpret_cast<T*>(block_ + first_); }
  std::int64_t size() const { return count_; }
  std::vector<T> to_host() const {
    std::vector<T> out(static_cast<std::size_t>(count_));
    ONPA_CUDA_CHECK(cudaDeviceSynchronize());
    if (count_ > 0) {
      ONPA_CUDA_CHECK(cudaMemcpy(out.data(), data(), bytes(), cudaMemcpyDeviceToHost));
    }
    return out;
  }

 private:
  static constexpr std::size_t kGuardBytes = 256;

  DeviceArray(const T* values, std::int64_t count, std::int64_t offset)
      : first_(kGuardBytes + static_cast<std::size_t>(offset) * sizeof(T)), count_(count) {
    std::vector<unsigned char> initial(block_bytes(), 0xFF);
    if (values != nullptr && count > 0) std::memcpy(initial.data() + first_, values, bytes());
    void* block = nullptr;
    ONPA_CUDA_CHECK(cudaMalloc(&block, initial.size()));
    block_ = static_cast<unsigned char*>(block);
    ONPA_CUDA_CHECK(cudaMemcpy(block_, initial.data(), initial.size(), cudaMemcpyHostToDevice));
    ASAN_POISON_MEMORY_REGION(block_, first_);
    ASAN_POISON_MEMORY_REGION(block_ + first_ + bytes(), kGuardBytes);
  }

  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
  std::size_t block_bytes() const { return first_ + bytes() + kGuardBytes; }

  std::int64_t damaged_guard_bytes() const {
    ASAN_UNPOISON_MEMORY_REGION(block_, block_bytes());
    std::vector<unsigned char> now(block_bytes());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(now.data(), block_, now.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    const auto damaged = [](unsigned char byte) { return byte != 0xFF; };
    const auto first = now.begin() + static_cast<std::ptrdiff_t>(first_);
    return std::count_if(now.begin(), first, damaged) +
           std::count_if(first + static_cast<std::ptrdiff_t>(bytes()), now.end(), damaged);
  }

  unsigned char* block_ = nullptr;
  std::size_t first_;
  std::int64_t count_;
};

}  // namespace onpa::testing
