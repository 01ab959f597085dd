// TCP connections as whole messages with a deadline.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace onpa::dist::tcp {

using Clock = std::chrono::steady_clock;

/// A file descriptor, closed at its end.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Accepts connections at `port` of all interfaces; 0 is any free port. Throws Error (kConfig) if
/// the port is taken.
Socket listen_at(int port);
int port_of(const Socket& listener);
/// The numeric address of the other end.
std::string peer_address(const Socket& connection);

/// A connection to port `port` of `host`, tried again until it stands. Throws Error (kStalled) with
/// the reason of the last attempt if it does not until then.
Socket connect_to(const std::string& host, int port, Clock::time_point until);
/// The next connection, if one comes until then.
std::optional<Socket> accept_until(const Socket& listener, Clock::time_point until);

/// Whether all bytes went or came until then.
bool send_until(const Socket& to, const void* data, std::size_t bytes, Clock::time_point until);
bool receive_until(const Socket& from, void* data, std::size_t bytes, Clock::time_point until);

}  // namespace onpa::dist::tcp
