#include "dist/nccl/communicator.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>

#include "kernels/error.h"

namespace onpa::dist::nccl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kBetweenLooks = std::chrono::microseconds(20);
// What is queued has at most this long to end with the communicator.
constexpr double kFinalizeSeconds = 60;
constexpr double kForever = std::numeric_limits<double>::infinity();

// The id of rank 0, as numbers that every Comm can carry.
ncclUniqueId shared_id(Comm& control) {
  ncclUniqueId id = {};
  static_assert(sizeof id % sizeof(std::int64_t) == 0);
  constexpr auto kNumbers = static_cast<std::int64_t>(sizeof id / sizeof(std::int64_t));
  const Tensor numbers = Tensor::zeros({kNumbers + 1}, DType::kI64);
  auto* values = numbers.data<std::int64_t>();
  if (control.rank() == 0) {
    // All ranks must hear of a failure here, as they wait for the id.
    values[kNumbers] = ncclGetUniqueId(&id);
    std::memcpy(values, &id, sizeof id);
  }
  control.broadcast(numbers);
  if (values[kNumbers] != ncclSuccess) {
    fail(ExitCode::kDevice,
         "NCCL on rank 0: ", ncclGetErrorString(static_cast<ncclResult_t>(values[kNumbers])));
  }
  std::memcpy(&id, values, sizeof id);
  return id;
}

}  // namespace

Communicator::Communicator(Comm& control, double join_seconds) : rank_(control.rank()) {
  // A graph that one rank captures while another queues the same collectives one by one must not
  // make NCCL exchange buffers at the capture.
  setenv("NCCL_GRAPH_REGISTER", "0", 0);
  const ncclUniqueId id = shared_id(control);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommInitRankConfig(&comm_, control.size(), id, control.rank(), &config), "starting");
  settle("starting", join_seconds);
}

Communicator::~Communicator() {
  try {
    if (comm_ != nullptr) {
      check(ncclCommFinalize(comm_), "ending");
      settle("ending", kFinalizeSeconds);
      if (ncclComm_t comm = std::exchange(comm_, nullptr)) ncclCommDestroy(comm);
    }
  } catch (const Error&) {
    // It was abandoned then.
  }
}

void Communicator::queue(bool several, const std::function<ncclResult_t(ncclComm_t)>& calls) {
  check();
  if (several) check(ncclGroupStart(), "a group");
  ncclResult_t result = calls(comm_);
  // A group that was begun has to end, whatever happened in it.
  if (several) {
    const ncclResult_t ended = ncclGroupEnd();
    if (result == ncclSuccess || result == ncclInProgress) result = ended;
  }
  check(result, "a collective");
  settle("a collective", kForever);
}

void Communicator::settle(const char* what, double seconds) {
  const auto begin = Clock::now();
  for (;;) {
    ncclComm_t comm = comm_;
    if (comm == nullptr) break;
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm, &state), what);
    if (state != ncclInProgress) return check(state, what);
    if (std::chrono::duration<double>(Clock::now() - begin).count() > seconds) {
      error_ =
          Error(onpa::detail::concat("rank ", rank_, ": NCCL, ", what,
                                     ": the other ranks were not reached within ", seconds, " s"),
                ExitCode::kStalled);
      abandon();
      break;
    }
    std::this_thread::sleep_for(kBetweenLooks);
  }
  check();
}

void Communicator::check() {
  if (comm_ == nullptr) {
    throw error_.value_or(
        Error(onpa::detail::concat("rank ", rank_, ": NCCL was abandoned"), ExitCode::kStopped));
  }
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &state), "a collective");
  if (state != ncclInProgress) check(state, "a collective");
}

void Communicator::check(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress) give_up(result, what);
}

void Communicator::give_up(ncclResult_t result, const char* what) {
  const bool lost = result == ncclRemoteError || result == ncclSystemError;
  const char* more = comm_ != nullptr ? ncclGetLastError(comm_) : "";
  error_ =
      Error(onpa::detail::concat("rank ", rank_, ": NCCL, ", what, ": ", ncclGetErrorString(result),
                                 more != nullptr && *more ? "; " : "", more != nullptr ? more : ""),
            lost ? ExitCode::kStopped : ExitCode::kDevice);
  abandon();
  throw *error_;
}

// Kernels that wait for a lost rank end, and with them what waits for their stream.
void Communicator::abandon() {
  if (ncclComm_t comm = std::exchange(comm_, nullptr)) ncclCommAbort(comm);
}

}  // namespace onpa::dist::nccl
