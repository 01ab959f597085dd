#include "dist/tcp/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "kernels/error.h"

namespace onpa::dist::tcp {
namespace {

constexpr int kBacklog = 1024;
constexpr auto kBetweenAttempts = std::chrono::milliseconds(100);

// A host that has gone without a word is noticed after 30 + 3 * 10 s.
constexpr int kIdleSeconds = 30, kProbeSeconds = 10, kProbes = 3;
constexpr unsigned kUnansweredMs = 60000;

void set_option(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof value);
}

void set_up_connection(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kUnansweredMs));
}

// Whether `fd` is ready for `events` (or broken) before `until`.
bool wait_for(int fd, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd one = {fd, events, 0};
    const int ready = poll(&one, 1, static_cast<int>(std::min<std::int64_t>(left, 60000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

struct AddressListDelete {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListDelete>;

// One attempt; `why` is the reason if it gives no connection.
Socket try_to_connect(const std::string& host, int port, Clock::time_point until,
                      std::string& why) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found)) {
    why = gai_strerror(error);
    return {};
  }
  const AddressList list(found);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Socket made(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made.open()) continue;
    int error = connect(made.fd(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      socklen_t size = sizeof error;
      if (!wait_for(made.fd(), POLLOUT, until)) {
        error = ETIMEDOUT;
      } else if (getsockopt(made.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
    // Where nobody listens a connection from the same host may be one to itself.
    if (error == 0 && port_of(made) == port) error = ECONNREFUSED;
    if (error == 0) {
      set_up_connection(made.fd());
      return made;
    }
    why = std::strerror(error);
  }
  return {};
}

Socket listener_of(int family, int port) {
  Socket made(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.open()) return {};
  set_option(made.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  int bound = -1;
  if (family == AF_INET6) {
    set_option(made.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 0);  // takes IPv4 too
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(static_cast<std::uint16_t>(port));
    bound = bind(made.fd(), reinterpret_cast<const sockaddr*>(&any), sizeof any);
  } else {
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_port = htons(static_cast<std::uint16_t>(port));
    bound = bind(made.fd(), reinterpret_cast<const sockaddr*>(&any), sizeof any);
  }
  return bound == 0 && listen(made.fd(), kBacklog) == 0 ? std::move(made) : Socket();
}

}  // namespace

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Socket listen_at(int port) {
  for (const int family : {AF_INET6, AF_INET}) {
    if (Socket made = listener_of(family, port); made.open()) return made;
  }
  fail(ExitCode::kConfig, "port ", port, " cannot be listened at: ", std::strerror(errno));
}

int port_of(const Socket& listener) {
  sockaddr_storage at = {};
  socklen_t size = sizeof at;
  getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&at), &size);
  return ntohs(at.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&at)->sin6_port
                                        : reinterpret_cast<const sockaddr_in*>(&at)->sin_port);
}

std::string peer_address(const Socket& connection) {
  sockaddr_storage at = {};
  socklen_t size = sizeof at;
  char text[NI_MAXHOST] = "?";
  if (getpeername(connection.fd(), reinterpret_cast<sockaddr*>(&at), &size) == 0) {
    getnameinfo(reinterpret_cast<const sockaddr*>(&at), size, text, sizeof text, nullptr, 0,
                NI_NUMERICHOST);
  }
  return text;
}

Socket connect_to(const std::string& host, int port, Clock::time_point until) {
  std::string why = "no time was left";
  while (Clock::now() < until) {
    if (Socket made = try_to_connect(host, port, until, why); made.open()) return made;
    std::this_thread::sleep_for(kBetweenAttempts);
  }
  fail(ExitCode::kStalled, "nobody answers at ", host, ":", port, " (", why, ")");
}

std::optional<Socket> accept_until(const Socket& listener, Clock::time_point until) {
  for (;;) {
    const int fd = accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      set_up_connection(fd);
      return Socket(fd);
    }
    const bool later = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (!later || !wait_for(listener.fd(), POLLIN, until)) return std::nullopt;
  }
}

bool send_until(const Socket& to, const void* data, std::size_t bytes, Clock::time_point until) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(to.fd(), from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      from += sent;
      bytes -= static_cast<std::size_t>(sent);
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    } else if (!wait_for(to.fd(), POLLOUT, until)) {
      return false;
    }
  }
  return true;
}

bool receive_until(const Socket& from, void* data, std::size_t bytes, Clock::time_point until) {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = recv(from.fd(), to, bytes, MSG_DONTWAIT);
    if (got > 0) {
      to += got;
      bytes -= static_cast<std::size_t>(got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      return false;
    } else if (!wait_for(from.fd(), POLLIN, until)) {
      return false;
    }
  }
  return true;
}

}  // namespace onpa::dist::tcp
