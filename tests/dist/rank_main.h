// What main() of a test binary of several ranks does, however they were launched.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>

#include "dist/comm.h"
#include "dist/launch.h"
#include "kernels/error.h"

namespace onpa::dist::testing {

/// Joins the other ranks and returns what `body` returns, or the code of what kept them from
/// joining. An error of a rank is told on stderr with its number.
inline int run_ranks(const std::function<int(Comm&)>& body) {
  int status = 0;
  try {
    run_from_environment([&](Comm& ranks) { status = body(ranks); },
                         [](const std::exception& e, int rank) {
                           std::fprintf(stderr, "rank %d says: %s\n", rank, e.what());
                         });
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return static_cast<int>(e.code());
  }
  return status;
}

}  // namespace onpa::dist::testing
