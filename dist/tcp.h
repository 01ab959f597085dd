// Ranks that are processes which any launcher has started and that meet over TCP.
#pragma once

#include <exception>
#include <functional>

#include "dist/launch.h"

namespace onpa::dist {

/// Joins the other processes at launch.host and launch.port, calls body(comm) and leaves when all
/// have come to the end of theirs. Every rank is connected to every other.
///
/// If the body throws, `report(error, rank)` is called, to say why, and the whole job ended with
/// the code of the Error, or kInternal: this does not return then. Comm::abort(code) ends it
/// without a report. If a rank fails, aborts or dies, collectives of the others throw Error
/// (kStopped) naming it, and all processes end with its code, kStopped for one that died: those
/// that have not done so within five seconds are ended, after a report.
///
/// Collectives of which ranks disagree throw Error (kInternal) that names two of them, on all
/// ranks; all later ones then throw the same.
///
/// Throws Error (kStalled) naming the ranks that did not come within launch.seconds, and (kConfig)
/// if processes call themselves the same rank, disagree on the number of ranks, or the port is
/// taken.
void run_tcp(const Launch& launch, const std::function<void(Comm&)>& body,
             const std::function<void(const std::exception& error, int rank)>& report);

}  // namespace onpa::dist
