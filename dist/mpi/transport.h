// The MPI calls that collectives are made of.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dist/transport.h"

namespace onpa::dist::mpi {

/// Calls of one communicator, from one thread. While a call waits, its thread sleeps most of the
/// time. Throws Error (kStopped) with MPI's words if MPI reports an error.
class Transport : public detail::Transport {
 public:
  explicit Transport(MPI_Comm comm);

  void gather_small(const void* mine, void* all, int bytes) override;
  void broadcast(std::byte* data, std::int64_t bytes, int root) override;
  void exchange(const Exchange& e) override;

 private:
  void check(int error) const;
  void finish(std::vector<MPI_Request>& requests, std::chrono::microseconds longest_sleep) const;

  MPI_Comm comm_;
};

}  // namespace onpa::dist::mpi
