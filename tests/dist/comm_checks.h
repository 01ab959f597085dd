// What every backend must do, as checks that all ranks of a job run together.
#pragma once

#include <cstdint>

#include "dist/comm.h"

namespace onpa::dist::testing {

/// all_reduce, broadcast, all_gather and reduce_scatter of every type, of sizes from 0 to several
/// blocks with an odd tail, against a loop over the ranks, bit by bit.
void check_values(Comm& comm);

/// Many collectives under way at once end in order and with the values that they have one by one.
void check_started_together(Comm& comm);

/// All collectives on n f32 elements over all ranks, for n that a backend cuts into pieces.
void check_long_tensor(Comm& comm, std::int64_t n);

/// What fits no collective is refused before anything is sent, so that the ranks stay together.
void check_refusals(Comm& comm);

/// Notes of each rank to each other come whole and in order while no collective is under way, those
/// that are too long cut; calls() counts collectives and names the last.
void check_notes(Comm& comm);

}  // namespace onpa::dist::testing
