// How processes that know one address find each other.
#pragma once

#include <string>
#include <vector>

#include "dist/tcp/socket.h"

namespace onpa::dist::tcp {

/// Connections of one rank.
struct Mesh {
  std::vector<Socket> data;     // by rank; its own is not open
  std::vector<Socket> control;  // rank 0's by rank, its own not open; another's: one, to rank 0
};

/// Where and for how long ranks look for each other.
struct MeetingPoint {
  std::string host;  // of rank 0, as the others reach it
  int port = 0;
  double seconds = 300;
};

/// Connects rank `rank` with all others: rank 0 listens at the port and tells everybody where the
/// others are. Any other port that the system gives may be used between two ranks. Throws Error on
/// every rank that has come: kStalled naming the ranks that have not in time, kConfig if ranks have
/// the same number or another count of ranks.
Mesh meet(int rank, int size, const MeetingPoint& at);

}  // namespace onpa::dist::tcp
