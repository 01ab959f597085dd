// Where the processes of a simulated NCCL communicator meet: a thread of the one that made its id
// gathers what all ranks call, and answers them.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sim::nccl {

enum class Kind : std::uint32_t { kAllReduce, kBroadcast, kAllGather, kReduceScatter, kShift };

/// One collective as a rank calls it; its elements follow.
struct Call {
  Kind kind;
  std::uint32_t op, type, root;
  std::uint64_t count;  // as in NCCL's function
  friend bool operator==(const Call&, const Call&) = default;
};

/// In front of every message, in both directions.
struct Frame {
  enum class What : std::uint32_t { kJoin, kReady, kCall, kResult, kError, kLeave };
  What what;
  std::uint32_t code;   // kJoin: rank; kError: ncclResult_t
  std::uint64_t bytes;  // that follow; kJoin: none, but the number of ranks
};

std::size_t size_of(ncclDataType_t type);
/// What rank `rank` gets of `data`, what all ranks gave. Sums are rounded to the type after each
/// addition and begin at a rank that depends on the place, as they do in NCCL's rings.
std::vector<std::byte> result_of(const Call& call, const std::vector<std::vector<std::byte>>& data,
                                 std::size_t rank);

/// Starts a hub for one communicator; returns its port on this host. It ends when all have left.
int start_hub();

}  // namespace sim::nccl
