// What the backends on the CPU share: reductions in the order of ranks, and the state of a
// collective that another thread carries out.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>

#include "dist/comm.h"

namespace onpa::dist::detail {

/// out[i] = parts[0][i] op parts[1][i] op ..., i < n, from left to right. `out` may be one of the
/// parts. Types: f32, f64, i64 (where a sum wraps around).
void reduce_in_order(DType dtype, ReduceOp op, std::span<const std::byte* const> parts,
                     std::byte* out, std::int64_t n);

/// Throws Error (kInternal) unless a backend on the CPU can carry `c` out on `rank`.
void check_on_host(const Collective& c, int rank);

/// A collective that a thread of the backend ends, well or with an exception.
class HostWork : public WorkState {
 public:
  void finish(std::exception_ptr error = nullptr);
  void wait() override;
  bool done() override;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace onpa::dist::detail
