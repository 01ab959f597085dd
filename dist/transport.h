// What collectives on the CPU are made of: bytes between ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace onpa::dist::detail {

/// Calls of one group of ranks, from one thread of each; all make the same ones in one order. Each
/// returns when it is done, and sleeps while it waits. Throws Error (kStopped) if the network or
/// another rank fails.
class Transport {
 public:
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Where ranks wait for each other to come. `all`, size() blocks of `bytes`, becomes the `mine`
  /// of every rank.
  virtual void gather_small(const void* mine, void* all, int bytes) = 0;
  /// `bytes` at `data` become what they are on `root`.
  virtual void broadcast(std::byte* data, std::int64_t bytes, int root) = 0;
  /// To each other rank r go send_bytes(r) from send(r), and from it come receive_bytes(r) to
  /// receive(r). Counts fit an int.
  struct Exchange {
    std::function<const std::byte*(int)> send;
    std::function<std::byte*(int)> receive;
    std::function<std::int64_t(int)> send_bytes, receive_bytes;
  };
  virtual void exchange(const Exchange& e) = 0;

 protected:
  Transport() = default;
  int rank_ = 0, size_ = 1;
};

}  // namespace onpa::dist::detail
