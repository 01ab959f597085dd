// Ranks that are threads of one process: for tests, and for several models in one program.
#pragma once

#include <functional>

#include "dist/comm.h"

namespace onpa::dist {

/// Calls body(comm) on `size` threads, one a rank, and returns when all have ended. The Comm ends
/// with the call of its body.
///
/// If a rank throws or aborts, collectives of the others that need it throw Error (kStopped)
/// naming it, and this rethrows what the first such rank threw; Comm::abort(code) throws Error with
/// that code there. Collectives that do not go together on all ranks throw Error (kInternal)
/// naming both, on all ranks; one that waits for a rank whose body has returned throws Error
/// (kStopped). Throws Error (kInternal) unless size >= 1.
void run_local(int size, const std::function<void(Comm&)>& body);

}  // namespace onpa::dist
