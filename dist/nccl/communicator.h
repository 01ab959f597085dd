// One NCCL communicator: made, watched and ended, its results as Errors.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <functional>
#include <optional>

#include "dist/comm.h"

namespace onpa::dist::nccl {

/// Non-blocking: NCCL's calls return at once, and settle() waits until they have taken effect.
class Communicator {
 public:
  /// Over `control` rank 0 tells the others where to meet. Throws Error as make_nccl_comm().
  Communicator(Comm& control, double join_seconds);
  /// Waits for what was queued; or abandons it, after an error.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Calls `queue(communicator)`, in a group if it makes several calls, and returns when the work
  /// is on its stream.
  void queue(bool several, const std::function<ncclResult_t(ncclComm_t)>& calls);
  /// Throws Error if NCCL has reported one; abandons what is queued then.
  void check();
  /// Abandons what is queued.
  void abandon();

 private:
  void settle(const char* what, double seconds);
  void check(ncclResult_t result, const char* what);
  [[noreturn]] void give_up(ncclResult_t result, const char* what);

  const int rank_;
  ncclComm_t comm_ = nullptr;   // null: never made, or abandoned
  std::optional<Error> error_;  // why it was
};

}  // namespace onpa::dist::nccl
