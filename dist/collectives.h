// Collectives on the CPU made of a Transport: the same bits whatever it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dist/comm.h"
#include "dist/transport.h"

namespace onpa::dist::detail {

class Collectives {
 public:
  explicit Collectives(Transport& transport) : transport_(transport) {}

  /// Returns when this rank's part of `c` is done and its result there. Throws Error: kInternal on
  /// all ranks if they disagree on the collective, and what the Transport throws.
  void carry_out(const Collective& c);

 private:
  bool agree(const Collective& c);
  void all_reduce(const Collective& c);
  void reduce_scatter(const Collective& c);
  void all_gather(const Collective& c);
  void shift(const Collective& c);

  Transport& transport_;
  std::uint64_t calls_ = 0;
  std::vector<std::byte> scratch_;
};

}  // namespace onpa::dist::detail
