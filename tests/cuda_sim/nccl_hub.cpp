#include "tests/cuda_sim/nccl_hub.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>

namespace sim::nccl {
namespace {

struct Client {
  int fd = -1;
  int rank = -1;  // none before it has joined
  bool left = false;
  std::vector<std::byte> in, out;
  std::deque<std::pair<Call, std::vector<std::byte>>> calls;
};

class Hub {
 public:
  explicit Hub(int listener) : listener_(listener) {}
  ~Hub() {
    for (const Client& client : clients_) close(client.fd);
    close(listener_);
  }

  void run() {
    while (!everybody_left()) {
      wait();
      answer();
    }
  }

 private:
  bool everybody_left() const {
    if (clients_.empty()) return false;
    for (const Client& client : clients_) {
      if (!client.left) return false;
    }
    return true;
  }

  void wait() {
    std::vector<pollfd> waits = {{listener_, POLLIN, 0}};
    for (const Client& client : clients_) {
      const int events = client.left ? 0 : POLLIN | (client.out.empty() ? 0 : POLLOUT);
      waits.push_back({client.left ? -1 : client.fd, static_cast<short>(events), 0});
    }
    if (poll(waits.data(), waits.size(), -1) < 0) return;
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      if (waits[i + 1].revents & (POLLIN | POLLHUP | POLLERR)) read(clients_[i]);
      if (waits[i + 1].revents & POLLOUT) flush(clients_[i]);
    }
    if (waits[0].revents != 0) {
      clients_.emplace_back().fd = accept(listener_, nullptr, nullptr);
      const int on = 1;
      setsockopt(clients_.back().fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
  }

  void read(Client& client) {
    std::byte block[1 << 16];
    const ssize_t n = recv(client.fd, block, sizeof block, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {  // it is gone without a word
      client.left = true;
      return fail(ncclRemoteError);
    }
    client.in.insert(client.in.end(), block, block + n);
    while (take_message(client)) {
    }
  }

  bool take_message(Client& client) {
    Frame frame;
    if (client.in.size() < sizeof frame) return false;
    std::memcpy(&frame, client.in.data(), sizeof frame);
    const std::size_t body = frame.what == Frame::What::kCall ? frame.bytes : 0;
    if (client.in.size() < sizeof frame + body) return false;
    if (frame.what == Frame::What::kJoin) {
      client.rank = static_cast<int>(frame.code);
      if (ranks_ != 0 && ranks_ != frame.bytes) fail(ncclInvalidArgument);
      ranks_ = frame.bytes;
    } else if (frame.what == Frame::What::kLeave) {
      client.left = true;
    } else {
      Call call;
      const std::byte* at = client.in.data() + sizeof frame;
      std::memcpy(&call, at, sizeof call);
      client.calls.emplace_back(call, std::vector<std::byte>(at + sizeof call, at + body));
    }
    client.in.erase(client.in.begin(),
                    client.in.begin() + static_cast<std::ptrdiff_t>(sizeof frame + body));
    return true;
  }

  Client* rank(std::size_t r) {
    Client* found = nullptr;
    for (Client& client : clients_) {
      if (client.rank != static_cast<int>(r)) continue;
      if (found != nullptr) fail(ncclInvalidArgument);  // two of them
      found = &client;
    }
    return found;
  }

  void answer() {
    if (failed_ || ranks_ == 0) return;
    std::vector<Client*> all;
    for (std::size_t r = 0; r < ranks_; ++r) {
      all.push_back(rank(r));
      if (all.back() == nullptr) return;
    }
    if (!ready_) {
      ready_ = true;
      for (Client* client : all) send(*client, Frame::What::kReady, 0, {});
    }
    const auto has_call = [](const Client* client) { return !client->calls.empty(); };
    while (std::all_of(all.begin(), all.end(), has_call)) carry_out(all);
  }

  void carry_out(const std::vector<Client*>& all) {
    const Call call = all[0]->calls.front().first;
    std::vector<std::vector<std::byte>> data;
    for (Client* client : all) {
      if (!(client->calls.front().first == call)) return fail(ncclInvalidUsage);
      data.push_back(std::move(client->calls.front().second));
      client->calls.pop_front();
    }
    for (std::size_t r = 0; r < all.size(); ++r) {
      send(*all[r], Frame::What::kResult, 0, result_of(call, data, r));
    }
  }

  void fail(ncclResult_t why) {
    if (failed_) return;
    failed_ = true;
    for (Client& client : clients_) {
      client.calls.clear();
      send(client, Frame::What::kError, static_cast<std::uint32_t>(why), {});
    }
  }

  void send(Client& client, Frame::What what, std::uint32_t code,
            const std::vector<std::byte>& body) {
    const Frame frame = {what, code, body.size()};
    const auto* bytes = reinterpret_cast<const std::byte*>(&frame);
    client.out.insert(client.out.end(), bytes, bytes + sizeof frame);
    client.out.insert(client.out.end(), body.begin(), body.end());
    flush(client);
  }

  static void flush(Client& client) {
    const ssize_t n =
        ::send(client.fd, client.out.data(), client.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) client.out.erase(client.out.begin(), client.out.begin() + n);
    if (n < 0 && errno != EAGAIN && errno != EINTR) client.out.clear();
  }

  int listener_;
  std::uint64_t ranks_ = 0;
  bool ready_ = false, failed_ = false;
  std::deque<Client> clients_;
};

}  // namespace

int start_hub() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at = {};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  auto* address = reinterpret_cast<sockaddr*>(&at);
  if (bind(listener, address, size) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, address, &size) != 0) {
    close(listener);
    return 0;
  }
  std::thread([listener] { Hub(listener).run(); }).detach();
  return ntohs(at.sin_port);
}

}  // namespace sim::nccl
