// Collectives made of a Transport: the same bits as every other backend's.
#pragma once

#include <vector>

#include "dist/comm.h"
#include "dist/mpi/transport.h"

namespace onpa::dist::mpi {

class Collectives {
 public:
  explicit Collectives(MPI_Comm comm) : transport_(comm) {}

  /// Returns when this rank's part of `c` is done and its result there. Throws Error: kInternal on
  /// all ranks if they disagree on the collective, kStopped if MPI reports an error.
  void carry_out(const Collective& c);

 private:
  bool agree(const Collective& c);
  void all_reduce(const Collective& c);
  void reduce_scatter(const Collective& c);
  void all_gather(const Collective& c);

  Transport transport_;
  std::uint64_t calls_ = 0;
  std::vector<std::byte> scratch_;
};

}  // namespace onpa::dist::mpi
