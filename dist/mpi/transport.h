// The MPI calls that collectives are made of, as bytes between ranks; each returns when it is done.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace onpa::dist::mpi {

/// Calls of one communicator, from one thread. While a call waits, its thread sleeps most of the
/// time. Throws Error (kStopped) with MPI's words if MPI reports an error.
class Transport {
 public:
  explicit Transport(MPI_Comm comm);

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Where ranks wait for each other to come. `all`, size() blocks of `bytes`, becomes the `mine`
  /// of every rank.
  void gather_small(const void* mine, void* all, int bytes);
  /// `bytes` at `data` become what they are on `root`.
  void broadcast(std::byte* data, std::int64_t bytes, int root);
  /// To each other rank r go send_bytes(r) from send(r), and from it come receive_bytes(r) to
  /// receive(r). Counts fit an int.
  struct Exchange {
    std::function<const std::byte*(int)> send;
    std::function<std::byte*(int)> receive;
    std::function<std::int64_t(int)> send_bytes, receive_bytes;
  };
  void exchange(const Exchange& e);

 private:
  void check(int error) const;
  void finish(std::vector<MPI_Request>& requests, std::chrono::microseconds longest_sleep) const;

  MPI_Comm comm_;
  int rank_ = 0, size_ = 1;
};

}  // namespace onpa::dist::mpi
