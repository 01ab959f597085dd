// One rank without others.
#pragma once

#include "dist/comm.h"

namespace onpa::dist {

/// Collectives of one rank: done when they are started, by the thread that does so.
class Alone : public Comm {
 public:
  Alone() : Comm(0, 1) {}
  /// Throws Error with `code`.
  [[noreturn]] void abort(int code) override;

 protected:
  Work start(Collective collective) override;
};

}  // namespace onpa::dist
