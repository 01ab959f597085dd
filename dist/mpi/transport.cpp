#include "dist/mpi/transport.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "kernels/error.h"

namespace onpa::dist::mpi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kBroadcastBytes = std::int64_t{1} << 23;  // at once; a count is an int

// A call that the other ranks have come to already ends within these looks. After them the thread
// sleeps: the cores are there for the kernels. Data moves only during a look, and 64 KiB to 4 MiB
// of it between two, so that sleeping longer would slow it down.
constexpr int kLooks = 200;
constexpr auto kSleep = std::chrono::microseconds(20);

// Until all ranks have come nothing moves, and a look costs 15 us. Up to here the thread then
// sleeps an eighth of the time that it has waited so far.
constexpr auto kSleepForOthers = std::chrono::milliseconds(1);

}  // namespace

Transport::Transport(MPI_Comm comm) : comm_(comm) {
  check(MPI_Comm_rank(comm_, &rank_));
  check(MPI_Comm_size(comm_, &size_));
}

void Transport::check(int error) const {
  if (error == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  fail(ExitCode::kStopped, "MPI: ", std::string(text, static_cast<std::size_t>(length)));
}

void Transport::finish(std::vector<MPI_Request>& requests,
                       std::chrono::microseconds longest_sleep) const {
  const auto begin = Clock::now();
  for (int looks = 0;; ++looks) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                      MPI_STATUSES_IGNORE));
    if (done != 0) return;
    if (looks < kLooks) {
      sched_yield();
      continue;
    }
    const Clock::duration part = (Clock::now() - begin) / 8;
    std::this_thread::sleep_for(std::clamp<Clock::duration>(part, kSleep, longest_sleep));
  }
}

void Transport::gather_small(const void* mine, void* all, int bytes) {
  std::vector<MPI_Request> request(1);
  check(MPI_Iallgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, comm_, request.data()));
  finish(request, kSleepForOthers);
}

void Transport::broadcast(std::byte* data, std::int64_t bytes, int root) {
  for (std::int64_t begin = 0; begin < bytes; begin += kBroadcastBytes) {
    const auto count = static_cast<int>(std::min(kBroadcastBytes, bytes - begin));
    std::vector<MPI_Request> request(1);
    check(MPI_Ibcast(data + begin, count, MPI_BYTE, root, comm_, request.data()));
    finish(request, kSleep);
  }
}

void Transport::exchange(const Exchange& e) {
  std::vector<MPI_Request> requests;
  const auto count = [](std::int64_t bytes) { return static_cast<int>(bytes); };
  // Each rank starts with its right neighbour, so that they do not all send to the same one.
  for (int step = 1; step < size_; ++step) {
    const int from = (rank_ + size_ - step) % size_;
    if (e.receive_bytes(from) == 0) continue;
    requests.emplace_back();
    check(MPI_Irecv(e.receive(from), count(e.receive_bytes(from)), MPI_BYTE, from, 0, comm_,
                    &requests.back()));
  }
  for (int step = 1; step < size_; ++step) {
    const int to = (rank_ + step) % size_;
    if (e.send_bytes(to) == 0) continue;
    requests.emplace_back();
    check(MPI_Isend(e.send(to), count(e.send_bytes(to)), MPI_BYTE, to, 0, comm_, &requests.back()));
  }
  finish(requests, kSleep);
}

}  // namespace onpa::dist::mpi
