// What tests say to the stand-in for NCCL, and what they ask it.
#pragma once

#include <cstddef>

namespace sim {

/// Of this process.
struct NcclOptions {
  /// A call that NCCL may answer with ncclInProgress takes effect when ncclCommGetAsyncError has
  /// been asked as many times.
  int polls = 2;
};
NcclOptions& nccl_options();

/// What this process has done.
struct NcclStats {
  std::size_t collectives = 0;  // that ended
  std::size_t bytes = 0;        // that this rank gave to them
  std::size_t groups = 0;       // of two calls or more
  std::size_t aborts = 0, destroyed = 0;
};
NcclStats& nccl_stats();

}  // namespace sim
