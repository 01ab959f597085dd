#include "dist/tcp/transport.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/error.h"

namespace onpa::dist::tcp {
namespace {

// Why a connection broke is usually on its way by another one.
constexpr auto kReasonTime = std::chrono::seconds(2);

// A rank that ends the job may do so because of what all were told by this same collective: the
// others get this long to hear the rest of it, and say the same.
constexpr auto kRestTime = std::chrono::seconds(1);

}  // namespace

Transport::Transport(int rank, std::vector<Socket> data, Control& control)
    : data_(std::move(data)), control_(control) {
  rank_ = rank;
  size_ = static_cast<int>(data_.size());
}

void Transport::broken(int rank, int error) {
  if (const auto loss = control_.loss(kReasonTime)) fail(ExitCode::kStopped, loss->text());
  fail(ExitCode::kStopped, "the connection to rank ", rank,
       " broke: ", error == 0 ? "it was closed" : std::strerror(error));
}

// Sends and receives what can be without waiting; whether something moved.
bool Transport::advance(Flow& flow) {
  const int fd = data_[static_cast<std::size_t>(flow.rank)].fd();
  bool moved = false;
  const std::int64_t ready = flow.may_send ? *flow.may_send : flow.send_bytes;
  if (flow.sent < ready) {
    const ssize_t n = send(fd, flow.send + flow.sent, static_cast<std::size_t>(ready - flow.sent),
                           MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) broken(flow.rank, errno);
    flow.sent += std::max<ssize_t>(n, 0);
    moved = n > 0;
  }
  if (flow.received < flow.receive_bytes) {
    const ssize_t n =
        recv(fd, flow.receive + flow.received,
             static_cast<std::size_t>(flow.receive_bytes - flow.received), MSG_DONTWAIT);
    if (n == 0) broken(flow.rank, 0);
    if (n < 0 && errno != EAGAIN && errno != EINTR) broken(flow.rank, errno);
    flow.received += std::max<ssize_t>(n, 0);
    moved = moved || n > 0;
  }
  return moved;
}

void Transport::run(std::span<Flow> flows) {
  std::optional<Clock::time_point> until;  // once there is a loss
  for (;;) {
    bool moved = false, done = true;
    for (Flow& flow : flows) {
      moved = advance(flow) || moved;
      done = done && flow.sent == flow.send_bytes && flow.received == flow.receive_bytes;
    }
    if (done) return;
    if (moved) continue;
    if (until && Clock::now() >= *until) broken(rank_, 0);
    // poll() skips a negative descriptor.
    std::vector<pollfd> waits = {{until ? -1 : control_.loss_fd(), POLLIN, 0}};
    for (const Flow& flow : flows) {
      const std::int64_t ready = flow.may_send ? *flow.may_send : flow.send_bytes;
      const int events =
          (flow.sent < ready ? POLLOUT : 0) | (flow.received < flow.receive_bytes ? POLLIN : 0);
      if (events == 0) continue;
      waits.push_back(
          {data_[static_cast<std::size_t>(flow.rank)].fd(), static_cast<short>(events), 0});
    }
    // Looks again while a loss is waited out, which is rare: no more is needed than to end in time.
    if (poll(waits.data(), waits.size(), until ? 10 : -1) < 0 && errno != EINTR) {
      fail(ExitCode::kStopped, "waiting for other ranks: ", std::strerror(errno));
    }
    if (waits[0].revents != 0) until = Clock::now() + kRestTime;
  }
}

void Transport::gather_small(const void* mine, void* all, int bytes) {
  auto* blocks = static_cast<std::byte*>(all);
  std::memcpy(blocks + static_cast<std::int64_t>(rank_) * bytes, mine,
              static_cast<std::size_t>(bytes));
  exchange({.send = [&](int) { return static_cast<const std::byte*>(mine); },
            .receive = [&](int r) { return blocks + static_cast<std::int64_t>(r) * bytes; },
            .send_bytes = [&](int) { return std::int64_t{bytes}; },
            .receive_bytes = [&](int) { return std::int64_t{bytes}; }});
}

// From each rank to the next, which passes on what it has so far: every link carries the data once,
// at the same time.
void Transport::broadcast(std::byte* data, std::int64_t bytes, int root) {
  const int place = (rank_ + size_ - root) % size_;
  std::vector<Flow> flows;
  flows.reserve(2);  // so that the first stays where it is
  if (place > 0) {
    flows.push_back({.rank = (rank_ + size_ - 1) % size_, .receive = data, .receive_bytes = bytes});
  }
  if (place + 1 < size_) {
    flows.push_back({.rank = (rank_ + 1) % size_,
                     .send = data,
                     .send_bytes = bytes,
                     .may_send = place > 0 ? &flows.front().received : nullptr});
  }
  run(flows);
}

void Transport::exchange(const Exchange& e) {
  std::vector<Flow> flows;
  for (int step = 1; step < size_; ++step) {
    const int other = (rank_ + step) % size_;
    flows.push_back({.rank = other,
                     .send = e.send(other),
                     .send_bytes = e.send_bytes(other),
                     .receive = e.receive(other),
                     .receive_bytes = e.receive_bytes(other)});
  }
  run(flows);
}

}  // namespace onpa::dist::tcp
