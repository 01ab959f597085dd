#include "dist/host.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace onpa::dist::detail {
namespace {

// Summed in the first cache level, so that every part is read once and the result written once.
constexpr std::int64_t kBlock = 1024;

template <class T>
void add(T* sum, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      sum[i] = static_cast<T>(static_cast<U>(sum[i]) + static_cast<U>(x[i]));
    } else {
      sum[i] += x[i];
    }
  }
}

template <class T>
void maximum(T* most, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const bool is_nan = x[i] != x[i];
    most[i] = is_nan || x[i] > most[i] ? x[i] : most[i];
  }
}

template <class T>
void reduce(ReduceOp op, std::span<const std::byte* const> parts, std::byte* out, std::int64_t n) {
  std::array<T, kBlock> block;
  const auto one = [op](T* to, const T* x, std::int64_t count) {
    op == ReduceOp::kSum ? add(to, x, count) : maximum(to, x, count);
  };
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    std::memcpy(block.data(), reinterpret_cast<const T*>(parts[0]) + begin, bytes);
    for (const std::byte* part : parts.subspan(1)) {
      const T* x = reinterpret_cast<const T*>(part) + begin;
      // A count that the compiler knows is what it makes vector code for.
      count == kBlock ? one(block.data(), x, kBlock) : one(block.data(), x, count);
    }
    std::memcpy(reinterpret_cast<T*>(out) + begin, block.data(), bytes);
  }
}

}  // namespace

void reduce_in_order(DType dtype, ReduceOp op, std::span<const std::byte* const> parts,
                     std::byte* out, std::int64_t n) {
  if (dtype == DType::kF32) return reduce<float>(op, parts, out, n);
  if (dtype == DType::kF64) return reduce<double>(op, parts, out, n);
  ONPA_CHECK(dtype == DType::kI64, "reduction of ", name_of(dtype), " on the CPU");
  reduce<std::int64_t>(op, parts, out, n);
}

void check_on_host(const Collective& c, int rank) {
  if (c.kind == Collective::Kind::kBarrier) return;
  ONPA_CHECK(c.in.device() == DeviceKind::kCpu, "rank ", rank, ": ", c.name(),
             ": the tensor is on the GPU, this backend works on the CPU");
  const DType dtype = c.in.dtype();
  ONPA_CHECK(dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI64, "rank ", rank,
             ": ", c.name(), ": want f32, f64 or i64");
}

void HostWork::finish(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
  }
  ended_.notify_all();
}

void HostWork::wait() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return done_; });
  if (error_) std::rethrow_exception(error_);
}

bool HostWork::done() {
  const std::lock_guard lock(mutex_);
  return done_;
}

}  // namespace onpa::dist::detail
